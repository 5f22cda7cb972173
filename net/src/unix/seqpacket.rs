//! Connections of messages within one host.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::{NO_SIGNAL, Received, receive};
use socket2::{Domain, Socket, Type};

use super::connect::connect;
use super::listener::{BACKLOG, SocketFile, bind, listen_or_replace};
use super::{credentials, passing, peer_of, to_std};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};

/// A connection that keeps the borders of messages: in order, without loss, and with an end.
///
/// # Platform
/// Linux and the BSDs; macOS has none.
///
/// # References
/// `SOCK_SEQPACKET` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
///
/// # Examples
/// ```
/// use polyloop::net::UnixSeqpacket;
///
/// # polyloop::run(async {
/// let (one, other) = UnixSeqpacket::pair()?;
/// one.send(b"first").await?;
/// one.send(b"second").await?;
/// drop(one);
///
/// let mut buf = [0; 16];
/// assert_eq!(other.recv(&mut buf).await?, 5);
/// assert_eq!(other.recv(&mut buf).await?, 6);
/// assert_eq!(other.recv(&mut buf).await?, 0);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UnixSeqpacket {
    fd: AsyncFd<Socket>,
}

impl UnixSeqpacket {
    /// Connects to the listener at `path`; on Linux `"\0name"` is an abstract name.
    ///
    /// A listener whose queue is full is waited for.
    ///
    /// # Errors
    /// As for [`UnixStream::connect`](crate::UnixStream::connect).
    ///
    /// # Cancel safety
    /// The connection is given up.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixSeqpacket> {
        let socket = connect(Type::SEQPACKET, path.as_ref()).await?;
        Ok(UnixSeqpacket { fd: AsyncFd::from_nonblocking(socket) })
    }

    /// Makes two that are connected to each other.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(UnixSeqpacket, UnixSeqpacket)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        let wrap = |socket| AsyncFd::new(socket).map(|fd| UnixSeqpacket { fd });
        Ok((wrap(one)?, wrap(other)?))
    }

    fn fd(&self) -> &AsyncFd<Socket> {
        &self.fd
    }

    /// Sends a message, and returns its size. If there is no room it waits.
    ///
    /// # Errors
    /// What the system says, such as [`BrokenPipe`](io::ErrorKind::BrokenPipe), or that a message
    /// is too long.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
    pub async fn send(&self, message: &[u8]) -> io::Result<usize> {
        let send = |socket: &Socket| socket.send_with_flags(message, NO_SIGNAL);
        self.fd.async_io(Direction::Write, send).await
    }

    /// Receives a message, and returns its size. Zero is the end, or an empty message.
    ///
    /// Of one that is longer than `buf` the rest is lost; [`receive`](UnixSeqpacket::receive)
    /// tells.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.receive(buf).await?.n_bytes)
    }

    /// Receives a message, and says its size and whether it was longer than `buf`.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false)).await
    }

    /// Receives like [`receive`](UnixSeqpacket::receive), but leaves the message to be received
    /// again.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No message is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, true)).await
    }

    /// Waits until a message is there, or the end.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Read).await
    }

    /// Waits until there is room for a message.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn writable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Write).await
    }

    /// Receives the message that is there now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is; what the system says.
    pub fn try_receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.try_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; as for
    /// [`send`](UnixSeqpacket::send).
    pub fn try_send(&self, message: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send_with_flags(message, NO_SIGNAL))
    }

    /// Returns this side's address; mostly it has no name.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.fd.get_ref())
    }

    /// Returns the other side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let socket = self.fd.get_ref();
        match to_std(&socket.peer_addr()?)? {
            Some(addr) => Ok(addr),
            None => net::UnixStream::from(socket.try_clone()?).peer_addr(),
        }
    }

    /// Closes one direction or both.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.fd.get_ref().shutdown(how)
    }
}

credentials!(UnixSeqpacket);
passing!(UnixSeqpacket);

impl AsFd for UnixSeqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Listens for connections of messages. Dropping it removes its file, as that of a
/// [`UnixListener`](crate::UnixListener).
#[derive(Debug)]
pub struct UnixSeqpacketListener {
    fd: AsyncFd<Socket>,
    _file: Option<SocketFile>,
}

impl UnixSeqpacketListener {
    /// Listens at `path`; on Linux `"\0name"` is an abstract name, which needs no file.
    ///
    /// # Errors
    /// As for [`UnixListener::bind`](crate::UnixListener::bind).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixSeqpacketListener> {
        let (socket, file) = bind(Type::SEQPACKET, path.as_ref())?;
        socket.listen(BACKLOG)?;
        Ok(UnixSeqpacketListener { fd: AsyncFd::from_nonblocking(socket), _file: file })
    }

    /// Listens at `path`, in place of a listener that has left its file behind.
    ///
    /// # Errors
    /// As for [`UnixListener::bind_or_replace`](crate::UnixListener::bind_or_replace).
    pub fn bind_or_replace(path: impl AsRef<Path>) -> io::Result<UnixSeqpacketListener> {
        let (socket, file) = listen_or_replace(Type::SEQPACKET, path.as_ref())?;
        Ok(UnixSeqpacketListener { fd: AsyncFd::from_nonblocking(socket), _file: file })
    }

    /// Returns the address that is listened at.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.fd.get_ref())
    }
}

listening!(UnixSeqpacketListener => UnixSeqpacket, SocketAddr);

impl sealed::Listener for UnixSeqpacketListener {
    type Io = Socket;
    type Stream = UnixSeqpacket;
    type Addr = SocketAddr;

    fn fd(&self) -> &AsyncFd<Socket> {
        &self.fd
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        UnixSeqpacketListener::local_addr(self)
    }

    fn accept(listener: &Socket) -> io::Result<(UnixSeqpacket, SocketAddr)> {
        let (socket, peer) = accept(listener, peer_of)?;
        Ok((UnixSeqpacket { fd: AsyncFd::from_nonblocking(socket) }, peer))
    }
}

impl AsFd for UnixSeqpacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    match to_std(&socket.local_addr()?)? {
        Some(addr) => Ok(addr),
        None => net::UnixStream::from(socket.try_clone()?).local_addr(),
    }
}
