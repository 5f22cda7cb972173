//! Sockets within one host, with paths for addresses.
//!
//! On Linux an address may also be an abstract name, which is in no directory and is gone with
//! its socket: it is given as a path that begins with a NUL, as in `"\0name"`.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::{SockAddr, Socket};

mod connect;

mod stream;

mod listener;

mod datagram;

#[cfg(not(target_vendor = "apple"))]
mod seqpacket;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
#[cfg(not(target_vendor = "apple"))]
pub use seqpacket::{UnixSeqpacket, UnixSeqpacketListener};
pub use stream::UnixStream;

/// Makes an address of a path, or on Linux of an abstract name.
fn address(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    match bytes {
        [] => return invalid("an empty path is no socket's address"),
        [0, ..] if cfg!(any(target_os = "linux", target_os = "android")) => {}
        [0, ..] => return invalid("abstract names need Linux"),
        _ if bytes.contains(&0) => return invalid("a path has no NUL inside"),
        _ => {}
    }
    SockAddr::unix(path)
}

/// Turns an address into the standard library's kind. `None` if it is a path that fills the whole
/// address, so that no NUL ends it: the standard library makes those only of a socket.
fn to_std(addr: &SockAddr) -> io::Result<Option<SocketAddr>> {
    if let Some(path) = addr.as_pathname() {
        return Ok(SocketAddr::from_pathname(path).ok());
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = addr.as_abstract_namespace() {
        use std::os::linux::net::SocketAddrExt;

        return SocketAddr::from_abstract_name(name).map(Some);
    }
    // The address of a socket without a name.
    SocketAddr::from_pathname("").map(Some)
}

/// Returns the peer's address of a connection that was just accepted, as `accept` reported it.
fn peer_of(socket: Socket, addr: SockAddr) -> io::Result<(Socket, SocketAddr)> {
    if let Some(addr) = to_std(&addr)? {
        return Ok((socket, addr));
    }
    let stream = net::UnixStream::from(socket);
    let addr = stream.peer_addr()?;
    Ok((stream.into(), addr))
}

/// Gives a connected Unix socket the method that asks who is at the other end.
macro_rules! credentials {
    ($socket:ty) => {
        impl $socket {
            /// Asks who was at the other end when it was connected, or when the pair was made.
            ///
            /// # Errors
            /// What the system says: a socket without a peer has no credentials.
            ///
            /// # Platform
            /// The process ID is reported on Linux only, and only for a peer in this process's PID
            /// namespace.
            ///
            /// # References
            /// `SO_PEERCRED` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            pub fn peer_credentials(
                &self,
            ) -> std::io::Result<polyloop_reactor::socket::Credentials> {
                polyloop_reactor::socket::peer_credentials(std::os::fd::AsFd::as_fd(self))
            }
        }
    };
}

/// Gives a Unix socket the methods that pass descriptors on.
macro_rules! passing {
    ($socket:ty) => {
        impl $socket {
            /// Sends bytes, and with the first of them copies of descriptors.
            ///
            /// Returns how many bytes were sent. The descriptors were sent if any byte was.
            ///
            /// # Errors
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if there is no byte, or more
            /// than 253 descriptors; what the system says.
            ///
            /// # Cancel safety
            /// Nothing was sent if the future is dropped before it is ready.
            ///
            /// # References
            /// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            pub async fn send_fds(
                &self,
                bytes: &[u8],
                fds: &[std::os::fd::BorrowedFd<'_>],
            ) -> std::io::Result<usize> {
                let send = |socket: &_| {
                    let socket = std::os::fd::AsFd::as_fd(socket);
                    polyloop_reactor::socket::send_with_fds(socket, bytes, fds)
                };
                self.fd().async_io(polyloop_reactor::Direction::Write, send).await
            }

            /// Receives bytes, and up to `max_fds` descriptors that come with them.
            ///
            /// They are close-on-exec, and owned as soon as they are received. If there were more
            /// than `max_fds`, the result is marked as truncated and the others are closed. No
            /// byte and no descriptor is the end of a stream.
            ///
            /// Credentials, timestamps and other control data that the socket asks for
            /// (`SO_PASSCRED`, which connections inherit from their listener) take no room from
            /// the descriptors. They are discarded, and the descriptor of the sending process
            /// (`SO_PASSPIDFD`) is closed.
            ///
            /// # Errors
            /// The error of `recvmsg`, such as `ConnectionReset`.
            ///
            /// # Cancel safety
            /// No byte is lost, and no descriptor.
            ///
            /// # References
            /// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            pub async fn receive_fds(
                &self,
                buf: &mut [u8],
                max_fds: usize,
            ) -> std::io::Result<polyloop_reactor::socket::ReceivedFds> {
                let receive = |socket: &_| {
                    let socket = std::os::fd::AsFd::as_fd(socket);
                    polyloop_reactor::socket::receive_with_fds(socket, buf, max_fds)
                };
                self.fd().async_io(polyloop_reactor::Direction::Read, receive).await
            }
        }
    };
}

use {credentials, passing};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_that_fits() {
        assert!(address(Path::new(&"x".repeat(100))).is_ok());
        for bad in ["", "a\0b", &"x".repeat(108), &"x".repeat(1_000)] {
            let error = address(Path::new(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        let named = to_std(&address(Path::new("some/path")).unwrap()).unwrap().unwrap();
        assert_eq!(named.as_pathname(), Some(Path::new("some/path")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_may_have_any_bytes() {
        use std::os::linux::net::SocketAddrExt;

        let named = to_std(&address(Path::new("\0na\0me")).unwrap()).unwrap().unwrap();
        assert_eq!(named.as_abstract_name(), Some(&b"na\0me"[..]));
    }
}
