//! A descriptor that becomes readable on demand: an eventfd, or a pipe where there is none.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::cvt::{cvt_size, retry};
use super::os;

/// Becomes readable when raised, from any thread or signal handler, and stays so until drained.
///
/// Close-on-exec and non-blocking. The part that a selector's [`Notifier`] is
/// built on.
///
/// # Examples
/// ```
/// use polyloop::driver::WakeFd;
///
/// let wake = WakeFd::new()?;
/// wake.raise()?;
/// wake.raise()?;
/// assert!(wake.drain()?);
/// assert!(!wake.drain()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WakeFd {
    reader: OwnedFd,
    /// The write end of a pipe; an eventfd is both ends.
    writer: Option<OwnedFd>,
}

impl WakeFd {
    /// Makes a descriptor that is not raised.
    ///
    /// # Errors
    /// What the system says, such as having no descriptor left.
    pub fn new() -> io::Result<WakeFd> {
        let (reader, writer) = os::wake_ends()?;
        Ok(WakeFd { reader, writer })
    }

    /// Makes the descriptor readable, if it is not already.
    ///
    /// Async-signal-safe: one `write`, no allocation, no lock. It may change `errno`.
    ///
    /// # Errors
    /// What the system says; being full already is no error.
    pub fn raise(&self) -> io::Result<()> {
        raise(self.writer_fd())
    }

    /// Makes the descriptor unreadable until it is raised again; reports whether it was raised.
    ///
    /// # Errors
    /// What the system says.
    pub fn drain(&self) -> io::Result<bool> {
        // An eventfd gives its 8 bytes at once; a pipe may hold 64 KiB.
        let mut buffer = [0_u8; 512];
        let mut raised = false;
        loop {
            let fd = self.reader.as_raw_fd();
            let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: `buffer` is valid for writes of its length, and `fd` is open: it is owned.
            let result = retry(|| cvt_size(unsafe { libc::read(fd, pointer, length) }));
            match result {
                Ok(n_bytes) => {
                    raised = true;
                    if n_bytes < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(raised),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the number to [`raise`] by.
    pub(super) fn writer_fd(&self) -> RawFd {
        self.writer.as_ref().unwrap_or(&self.reader).as_raw_fd()
    }

    /// Returns whether it is a pipe.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn is_pipe(&self) -> bool {
        self.writer.is_some()
    }

    /// Opens a pipe, even where there are eventfds.
    pub(super) fn from_pipe() -> io::Result<WakeFd> {
        let (reader, writer) = os::pipe()?;
        Ok(WakeFd { reader, writer: Some(writer) })
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Raises a [`WakeFd`] by the number of its writing end. Async-signal-safe.
pub(super) fn raise(writer: RawFd) -> io::Result<()> {
    // What an eventfd adds to its counter. A pipe takes 8 bytes as well as one.
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is valid for reads of its own length. A closed `writer` gives EBADF; callers
    // make sure that the number has not gone to another file.
    let result = retry(|| cvt_size(unsafe { libc::write(writer, one.as_ptr().cast(), one.len()) }));
    match result {
        Ok(_) => Ok(()),
        // A full pipe, or an eventfd at its maximum: raised already.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [WakeFd; 2] {
        [WakeFd::new().unwrap(), WakeFd::from_pipe().unwrap()]
    }

    #[test]
    fn draining_tells_whether_it_was_raised() {
        for wake in both() {
            assert!(!wake.drain().unwrap());
            wake.raise().unwrap();
            wake.raise().unwrap();
            assert!(wake.drain().unwrap());
            assert!(!wake.drain().unwrap());
        }
    }

    #[test]
    fn a_full_pipe_is_raised_already() {
        let wake = WakeFd::from_pipe().unwrap();
        for _ in 0..100_000 {
            wake.raise().unwrap();
        }
        assert!(wake.drain().unwrap());
        assert!(!wake.drain().unwrap());
    }

    #[test]
    fn a_counter_at_its_maximum_is_raised_already() {
        let wake = WakeFd::new().unwrap();
        let most = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: `most` is valid for reads of its own length, and the descriptor is open.
        let result = unsafe { libc::write(wake.writer_fd(), most.as_ptr().cast(), most.len()) };
        assert_eq!(cvt_size(result).unwrap(), most.len());
        wake.raise().unwrap();
        assert!(wake.drain().unwrap());
        assert!(!wake.drain().unwrap());
    }

    #[test]
    fn both_ends_are_closed_on_exec_and_do_not_block() {
        for wake in both() {
            for fd in [wake.reader.as_raw_fd(), wake.writer_fd()] {
                // SAFETY: F_GETFD only reads the flags of an open descriptor.
                let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
                assert_ne!(flags & libc::FD_CLOEXEC, 0);
                // SAFETY: F_GETFL only reads the status of an open descriptor.
                let status = unsafe { libc::fcntl(fd, libc::F_GETFL) };
                assert_ne!(status & libc::O_NONBLOCK, 0);
            }
        }
    }
}
