//! Unix datagram sockets.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::{NO_SIGNAL, is_out_of_buffers};
use socket2::{SockAddr, SockRef, Type};

use super::address::address;
use super::credentials::credentials;
use super::passing::passing;
use super::socket_file::{SocketFile, bind};
use crate::AsyncFd;
use crate::async_fd::into_std;
use crate::backoff::Backoff;
use crate::methods::{addresses, datagrams, messages};

/// A Unix datagram socket. Datagrams arrive in order and are not lost.
///
/// Dropping a socket that was bound to a path removes its file, unless another socket has replaced the
/// file since. A forked child does not remove it.
///
/// # Examples
/// ```
/// use polyloop::net::UnixDatagram;
///
/// # polyloop::run(async {
/// let (one, other) = UnixDatagram::pair()?;
/// one.send(b"hello").await?;
/// let mut buf = [0; 16];
/// assert_eq!(other.recv(&mut buf).await?, 5);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    fd: AsyncFd<net::UnixDatagram>,
    file: Option<SocketFile>,
}

impl UnixDatagram {
    /// Creates a socket without an address. It can send, but no other socket can send to it.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(net::UnixDatagram::unbound()?)
    }

    /// Creates a socket bound to `path`, or on Linux to an abstract name such as `"\0name"`.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if the file exists;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a path that is too long, which is more than 107
    /// bytes on Linux and 103 on the other systems.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        let (socket, file) = bind(Type::DGRAM, path.as_ref())?;
        Ok(UnixDatagram { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Creates a pair of connected sockets.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(one)?, UnixDatagram::from_std(other)?))
    }

    /// Creates a socket from the standard library's type, and makes it non-blocking.
    ///
    /// Its file is not removed on drop.
    pub fn from_std(socket: net::UnixDatagram) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram { fd: AsyncFd::new(socket)?, file: None })
    }

    /// Converts the socket into the standard library's type, in blocking mode.
    ///
    /// Its file is not removed.
    pub fn into_std(mut self) -> io::Result<net::UnixDatagram> {
        if let Some(file) = self.file.take() {
            file.keep();
        }
        let socket = into_std(self.fd, net::UnixDatagram::try_clone)?;
        socket.set_nonblocking(false)?;
        Ok(socket)
    }

    fn fd(&self) -> &AsyncFd<net::UnixDatagram> {
        &self.fd
    }

    /// Connects the socket to the one at `path`.
    ///
    /// Afterwards the socket sends to and receives from that socket only.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if there is no such file.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        SockRef::from(self).connect(&address(path.as_ref())?)
    }

    /// Sends a datagram to the connected socket and returns its size.
    ///
    /// Waits while the queue of the receiver is full.
    ///
    /// # Errors
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if the receiver is closed.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the datagram was not sent.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let mut backoff = Backoff::FULL_QUEUE;
        loop {
            let send = |socket: &net::UnixDatagram| socket.send(buf);
            match self.fd.async_io(Direction::Write, send).await {
                Err(error) if is_out_of_buffers(&error) => backoff.wait().await,
                result => return result,
            }
        }
    }

    /// Sends a datagram to the socket at `path` and returns its size.
    ///
    /// While the queue of the receiver is full, it retries after 1 to 64 ms: the system does not report
    /// when there is room.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if there is no such file;
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if its socket is closed.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the datagram was not sent.
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let addr = address(path.as_ref())?;
        let mut backoff = Backoff::FULL_QUEUE;
        loop {
            match self.try_send_to_addr(buf, &addr) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => backoff.wait().await,
                result => return result,
            }
        }
    }

    /// Sends a datagram to the connected socket without waiting, and returns its size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; otherwise as for
    /// [`send`](UnixDatagram::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send(buf))
    }

    /// Sends a datagram to the socket at `path` without waiting, and returns its size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; otherwise as for
    /// [`send_to`](UnixDatagram::send_to).
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.try_send_to_addr(buf, &address(path.as_ref())?)
    }

    fn try_send_to_addr(&self, buf: &[u8], addr: &SockAddr) -> io::Result<usize> {
        let send = |socket: &net::UnixDatagram| {
            SockRef::from(socket).send_to_with_flags(buf, addr, NO_SIGNAL)
        };
        match self.fd.try_io(Direction::Write, send) {
            Err(error) if is_out_of_buffers(&error) => Err(io::ErrorKind::WouldBlock.into()),
            result => result,
        }
    }

    /// Shuts down one direction of the socket, or both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.fd.get_ref().shutdown(how)
    }
}

datagrams!(UnixDatagram, net::UnixDatagram, SocketAddr);
messages!(UnixDatagram);
passing!(UnixDatagram);
addresses!(UnixDatagram, SocketAddr);
credentials!(UnixDatagram);

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
