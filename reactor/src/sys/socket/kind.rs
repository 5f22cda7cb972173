//! The kind of a descriptor, which decides how it can be used without blocking.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::c_int;

use crate::sys::cvt::cvt;
use crate::sys::stat::{FileId, stat_of};

/// The kind of file that a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A file or a directory on a disk, or the disk itself: always ready, but operations may block.
    File,
    /// A pipe or a FIFO.
    Pipe {
        /// Whether it is open for writing alone.
        is_writer: bool,
    },
    /// A terminal or another character device.
    Device,
    /// A TCP socket.
    Tcp,
    /// A Unix stream socket.
    UnixStream,
    /// Any other socket.
    Socket,
    /// Another kernel object: an eventfd, a timer, a selector.
    Other,
}

impl Kind {
    /// Returns whether an operation on a byte stream that transfers less than requested proves that
    /// the next one would block, in the direction in which this kind is used.
    ///
    /// It does not for the read end of a pipe, which a writer may open in packet mode (`O_DIRECT`), so that
    /// each read ends with a packet, or for a terminal, which ends a read with a line. For the
    /// read side of a Unix socket the caller has to know whether descriptors are passed with the bytes.
    pub fn short_is_proof(self) -> bool {
        matches!(self, Kind::Tcp | Kind::UnixStream | Kind::Pipe { is_writer: true })
    }
}

/// Returns the kind of `fd`.
///
/// # References
/// [fstat(2)](https://man7.org/linux/man-pages/man2/fstat.2.html), `SO_TYPE` and `SO_PROTOCOL` in
/// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
pub fn kind_of(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    let stat = stat_of(fd.as_raw_fd())?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK => Kind::File,
        libc::S_IFCHR => Kind::Device,
        libc::S_IFIFO => {
            let is_writer = status(fd.as_raw_fd())? & libc::O_ACCMODE == libc::O_WRONLY;
            Kind::Pipe { is_writer }
        }
        libc::S_IFSOCK => kind_of_socket(fd)?,
        _ => Kind::Other,
    })
}

/// Returns whether a selector can report when `fd` is ready. Files and directories on a disk are always
/// reported as ready, although reading them may block.
///
/// # References
/// [fstat(2)](https://man7.org/linux/man-pages/man2/stat.2.html).
pub fn is_pollable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(kind_of(fd)? != Kind::File)
}

fn kind_of_socket(fd: BorrowedFd<'_>) -> io::Result<Kind> {
    if option(fd, libc::SO_TYPE)? != libc::SOCK_STREAM {
        return Ok(Kind::Socket);
    }
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: `address` has room for `size` bytes, and both outlive the call.
    cvt(unsafe { libc::getsockname(fd.as_raw_fd(), address.as_mut_ptr().cast(), &mut size) })?;
    // SAFETY: an address is plain integers, for which zero, what the call has not filled, is valid.
    let family = unsafe { address.assume_init() }.ss_family;
    Ok(match c_int::from(family) {
        libc::AF_INET | libc::AF_INET6 if is_tcp(fd)? => Kind::Tcp,
        libc::AF_UNIX => Kind::UnixStream,
        _ => Kind::Socket,
    })
}

/// Returns whether a stream socket of the internet family is a TCP socket: SCTP has stream sockets of messages.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_tcp(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(option(fd, libc::SO_PROTOCOL)? == libc::IPPROTO_TCP)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
#[expect(clippy::unnecessary_wraps, reason = "other systems make a system call")]
fn is_tcp(_: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(true)
}

/// Returns whether a socket listens for connections.
///
/// # Errors
/// `ENOTSOCK` if `fd` is not a socket.
///
/// # References
/// `SO_ACCEPTCONN` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
pub fn is_listener(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(option(fd, libc::SO_ACCEPTCONN)? != 0)
}

fn option(fd: BorrowedFd<'_>, option: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` has room for `size` bytes, and both outlive the call.
    cvt(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &mut size,
        )
    })?;
    Ok(value)
}

pub(in crate::sys) fn status(fd: RawFd) -> io::Result<c_int> {
    // SAFETY: the call only reads the status; a number that is not open is an error, no harm.
    cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })
}

/// Returns which of the standard streams name the same file as `fd` and are in blocking mode.
///
/// If one of them is no longer blocking after `fd` was made non-blocking, the two are one open file, and
/// share its mode.
pub fn blocking_standard_streams(fd: BorrowedFd<'_>) -> [bool; 3] {
    let Ok(file) = FileId::of(fd.as_raw_fd()) else { return [false; 3] };
    [0, 1, 2].map(|stream| {
        FileId::of(stream).is_ok_and(|other| other == file)
            && status(stream).is_ok_and(|status| status & libc::O_NONBLOCK == 0)
    })
}

/// Returns whether an error is pending that is unrelated to the end of a connection.
pub(crate) fn has_pending_error(fd: BorrowedFd<'_>) -> bool {
    let mut item = libc::pollfd { fd: fd.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `item` is one item, and outlives the call, which does not wait.
    let n_items = unsafe { libc::poll(&mut item, 1, 0) };
    n_items == 1 && item.revents == libc::POLLERR
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn each_kind_is_distinguished() {
        let kind = |fd: OwnedFd| kind_of(fd.as_fd()).unwrap();
        let (reader, writer) = io::pipe().unwrap();
        assert_eq!(kind(File::open("/").unwrap().into()), Kind::File);
        assert_eq!(kind(File::open("/dev/null").unwrap().into()), Kind::Device);
        assert_eq!(kind(reader.into()), Kind::Pipe { is_writer: false });
        assert_eq!(kind(writer.into()), Kind::Pipe { is_writer: true });
        assert_eq!(kind(TcpListener::bind("127.0.0.1:0").unwrap().into()), Kind::Tcp);
        assert_eq!(kind(UdpSocket::bind("127.0.0.1:0").unwrap().into()), Kind::Socket);
        assert_eq!(kind(UnixStream::pair().unwrap().0.into()), Kind::UnixStream);
        assert_eq!(kind(UnixDatagram::unbound().unwrap().into()), Kind::Socket);
    }

    #[test]
    fn a_listener_is_distinguished_from_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(is_listener(listener.as_fd()).unwrap());
        assert!(!is_listener(one.as_fd()).unwrap());
        assert!(is_listener(File::open("/").unwrap().as_fd()).is_err());
    }

    #[test]
    fn files_and_directories_are_not_pollable_and_pipes_are() {
        let file = File::open("Cargo.toml").unwrap();
        let directory = File::open(".").unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        assert!(!is_pollable(file.as_fd()).unwrap());
        assert!(!is_pollable(directory.as_fd()).unwrap());
        assert!(is_pollable(reader.as_fd()).unwrap());
    }
}
