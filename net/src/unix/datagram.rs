//! Datagrams within one host.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::{NO_SIGNAL, Received, is_out_of_buffers, receive};
use socket2::{SockAddr, SockRef, Type};

use super::listener::{SocketFile, bind};
use super::{address, credentials, passing};
use crate::AsyncFd;
use crate::async_fd::into_std;
use crate::backoff::Backoff;

/// Sends and receives datagrams within one host: in order, and without loss.
///
/// Dropping one that was bound to a path removes the file: its own only, and not one that another
/// socket has put there since.
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
    /// Makes one without a name, which can send but not be sent to.
    ///
    /// # Errors
    /// What the system says.
    pub fn unbound() -> io::Result<UnixDatagram> {
        UnixDatagram::from_std(net::UnixDatagram::unbound()?)
    }

    /// Makes one that receives at `path`; on Linux `"\0name"` is an abstract name.
    ///
    /// # Errors
    /// What the system says, such as [`AddrInUse`](io::ErrorKind::AddrInUse) if there is a file.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a path of more than about a hundred
    /// bytes.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        let (socket, file) = bind(Type::DGRAM, path.as_ref())?;
        Ok(UnixDatagram { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Makes two that are connected to each other.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (one, other) = net::UnixDatagram::pair()?;
        Ok((UnixDatagram::from_std(one)?, UnixDatagram::from_std(other)?))
    }

    /// Takes a socket of the standard library and makes it non-blocking. Its file stays when it
    /// is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(socket: net::UnixDatagram) -> io::Result<UnixDatagram> {
        Ok(UnixDatagram { fd: AsyncFd::new(socket)?, file: None })
    }

    /// Gives the socket to the standard library, in blocking mode. Its file stays.
    ///
    /// # Errors
    /// What the system says.
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

    /// Sends to `path` from now on, and receives from there only.
    ///
    /// # Errors
    /// What the system says, such as [`NotFound`](io::ErrorKind::NotFound).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        SockRef::from(self).connect(&address(path.as_ref())?)
    }

    /// Sends a datagram to the connected socket, and returns its size.
    ///
    /// If the receiver's queue is full it waits.
    ///
    /// # Errors
    /// What the system says, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if the receiver is gone.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
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

    /// Sends a datagram to `path`, and returns its size.
    ///
    /// If the receiver's queue is full it is tried again from time to time: the system does not
    /// tell when there is room.
    ///
    /// # Errors
    /// What the system says, such as [`NotFound`](io::ErrorKind::NotFound) if there is no such
    /// path.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
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

    /// Receives a datagram, and returns its size.
    ///
    /// Of one that is longer than `buf` the rest is lost; [`receive`](UnixDatagram::receive)
    /// tells. An empty one is a message, and not an end.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.async_io(Direction::Read, |socket| socket.recv(buf)).await
    }

    /// Receives a datagram, and returns its size and its sender.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.fd.async_io(Direction::Read, |socket| socket.recv_from(buf)).await
    }

    /// Receives a datagram, and says its size and whether it was longer than `buf`.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false)).await
    }

    /// Receives like [`receive`](UnixDatagram::receive), but leaves the datagram to be received
    /// again.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, true)).await
    }

    /// Waits until something was received.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Read).await
    }

    /// Waits until there is room to send to the connected socket.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Write).await
    }

    /// Receives what is there now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is; what the system says.
    pub fn try_receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.try_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false))
    }

    /// Sends to `path` if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; as for
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

    /// Sends to the connected socket if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; what the system says.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send(buf))
    }

    /// Closes one direction or both.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.fd.get_ref().shutdown(how)
    }

    /// Returns this side's address, which may have no name.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Returns the connected address.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected) if there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().peer_addr()
    }
}

credentials!(UnixDatagram);
passing!(UnixDatagram);

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
