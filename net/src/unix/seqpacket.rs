//! Unix sockets that are connected and preserve message boundaries.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::NO_SIGNAL;
use socket2::{Domain, Socket, Type};

use super::address::{peer_of, to_std};
use super::connect::connect;
use super::credentials::credentials;
use super::passing::passing;
use super::socket_file::{BACKLOG, SocketFile, bind, listen_or_replace};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};
use crate::methods::messages;

/// A connected Unix socket that preserves message boundaries (`SOCK_SEQPACKET`).
///
/// Messages arrive in order and are not lost, and the receiver learns when the peer has closed the
/// connection.
///
/// # Platform
/// Linux and the BSDs.
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
    /// Connects to the listener at `path`, or on Linux at an abstract name such as `"\0name"`.
    ///
    /// Waits while the queue of the listener is full.
    ///
    /// # Errors
    /// As for [`UnixStream::connect`](crate::UnixStream::connect).
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the connection attempt is aborted.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixSeqpacket> {
        let socket = connect(Type::SEQPACKET, path.as_ref()).await?;
        Ok(UnixSeqpacket { fd: AsyncFd::from_nonblocking(socket) })
    }

    /// Creates a pair of connected sockets.
    pub fn pair() -> io::Result<(UnixSeqpacket, UnixSeqpacket)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        let wrap = |socket| AsyncFd::new(socket).map(|fd| UnixSeqpacket { fd });
        Ok((wrap(one)?, wrap(other)?))
    }

    fn fd(&self) -> &AsyncFd<Socket> {
        &self.fd
    }

    /// Sends a message and returns its size. Waits while there is no room.
    ///
    /// # Errors
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the peer has closed the connection; `EMSGSIZE` for
    /// a message that is too long.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the message was not sent.
    pub async fn send(&self, message: &[u8]) -> io::Result<usize> {
        let send = |socket: &Socket| socket.send_with_flags(message, NO_SIGNAL);
        self.fd.async_io(Direction::Write, send).await
    }

    /// Receives a message into `buf` and returns its size.
    ///
    /// A size of zero means that the peer has closed the connection, or has sent an empty message. If the
    /// message is longer than `buf`, the excess bytes are lost; [`recv_msg`](UnixSeqpacket::recv_msg)
    /// reports that.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, no message was received.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.recv_msg(buf).await?.len)
    }

    /// Sends a message without waiting, and returns its size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; otherwise as for
    /// [`send`](UnixSeqpacket::send).
    pub fn try_send(&self, message: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send_with_flags(message, NO_SIGNAL))
    }

    /// Receives a message that is available now, as [`recv`](UnixSeqpacket::recv) does.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.try_recv_msg(buf)?.len)
    }

    /// Returns the local address. It is usually unnamed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(self.fd.get_ref())
    }

    /// Returns the address of the peer.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let socket = self.fd.get_ref();
        match to_std(&socket.peer_addr()?)? {
            Some(addr) => Ok(addr),
            None => net::UnixStream::from(socket.try_clone()?).peer_addr(),
        }
    }

    /// Shuts down one direction of the connection, or both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.fd.get_ref().shutdown(how)
    }
}

messages!(UnixSeqpacket);
passing!(UnixSeqpacket);
credentials!(UnixSeqpacket);

impl AsFd for UnixSeqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Listens for [`UnixSeqpacket`] connections.
///
/// Dropping it removes its file, as with [`UnixListener`](crate::UnixListener).
#[derive(Debug)]
pub struct UnixSeqpacketListener {
    fd: AsyncFd<Socket>,
    _file: Option<SocketFile>,
}

impl UnixSeqpacketListener {
    /// Listens at `path`, or on Linux at an abstract name such as `"\0name"`.
    ///
    /// # Errors
    /// As for [`UnixListener::bind`](crate::UnixListener::bind).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixSeqpacketListener> {
        let (socket, file) = bind(Type::SEQPACKET, path.as_ref())?;
        socket.listen(BACKLOG)?;
        Ok(UnixSeqpacketListener { fd: AsyncFd::from_nonblocking(socket), _file: file })
    }

    /// Listens at `path`, replacing the file of a listener that is gone.
    ///
    /// # Errors
    /// As for [`UnixListener::bind_or_replace`](crate::UnixListener::bind_or_replace).
    pub fn bind_or_replace(path: impl AsRef<Path>) -> io::Result<UnixSeqpacketListener> {
        let (socket, file) = listen_or_replace(Type::SEQPACKET, path.as_ref())?;
        Ok(UnixSeqpacketListener { fd: AsyncFd::from_nonblocking(socket), _file: file })
    }

    /// Returns the local address.
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
