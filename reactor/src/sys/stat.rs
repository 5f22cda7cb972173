//! What stat(2) reports of a descriptor.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::cvt::cvt;

/// Identifies a file: two descriptors with the same identity name the same file.
///
/// The kind of the file is part of it, since the kernel has several counters for the inodes of files that
/// are on no disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    kind: u32,
}

impl FileId {
    /// Returns the identity of the file that `fd` names.
    pub(super) fn of(fd: RawFd) -> io::Result<FileId> {
        let stat = stat_of(fd)?;
        #[allow(clippy::unnecessary_cast, reason = "the types differ from system to system")]
        Ok(FileId {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            kind: (stat.st_mode & libc::S_IFMT) as u32,
        })
    }
}

/// What stat(2) reports of a file.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32")))]
pub(super) type Stat = libc::stat;

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32")))]
pub(super) fn stat_of(fd: RawFd) -> io::Result<Stat> {
    let mut stat = MaybeUninit::uninit();
    // SAFETY: `stat` has room for one `stat`; a number that is not open is an error, no harm.
    cvt(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled the structure.
    Ok(unsafe { stat.assume_init() })
}

// With 32 bits, glibc's fstat fails with `EOVERFLOW` for a file that is larger than 2 GiB or has a date
// beyond 2038, and its fstat64 for the latter, though neither is looked at.
#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32"))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) st_mode: libc::mode_t,
    pub(super) st_dev: u64,
    pub(super) st_ino: u64,
}

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "32"))]
pub(super) fn stat_of(fd: RawFd) -> io::Result<Stat> {
    let mut stat = MaybeUninit::uninit();
    let mask = libc::STATX_TYPE | libc::STATX_INO;
    // SAFETY: the path is a string, `stat` has room for one `statx`; a number that is not open is an
    // error, no harm.
    let result =
        unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, stat.as_mut_ptr()) };
    match cvt(result) {
        Ok(_) => {
            // SAFETY: the call succeeded, so it has filled the structure.
            let stat: libc::statx = unsafe { stat.assume_init() };
            let st_dev = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
            Ok(Stat { st_mode: stat.stx_mode.into(), st_dev, st_ino: stat.stx_ino })
        }
        // A sandbox that does not know the call.
        Err(error) if super::refusal::is_refusal(&error) => {
            let mut stat = MaybeUninit::uninit();
            // SAFETY: as for the other call.
            cvt(unsafe { libc::fstat64(fd, stat.as_mut_ptr()) })?;
            // SAFETY: the call succeeded, so it has filled the structure.
            let stat: libc::stat64 = unsafe { stat.assume_init() };
            Ok(Stat { st_mode: stat.st_mode, st_dev: stat.st_dev, st_ino: stat.st_ino })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_is_identified_by_device_inode_and_kind() {
        let (reader, writer) = io::pipe().unwrap();
        let (other, _) = io::pipe().unwrap();
        let pipe = FileId::of(reader.as_raw_fd()).unwrap();
        assert_eq!(pipe, FileId::of(writer.as_raw_fd()).unwrap());
        assert_ne!(pipe, FileId::of(other.as_raw_fd()).unwrap());
        let (socket, _) = UnixStream::pair().unwrap();
        let socket = FileId::of(socket.as_raw_fd()).unwrap();
        assert_ne!(pipe, FileId { kind: socket.kind, ..pipe });
    }
}
