//! A connection within one host.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use socket2::Type;

use super::connect::connect;
use super::{credentials, passing};
use crate::AsyncFd;
use crate::async_fd::into_std;
use crate::byte_stream::{peeking, reading, writing};
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};

/// A connection of bytes within one host.
///
/// All methods take `&self`, as those of [`TcpStream`](crate::TcpStream) do. Writing to a
/// connection that the peer has closed is an error, never a `SIGPIPE`.
///
/// # Examples
/// ```
/// use polyloop::net::UnixStream;
///
/// # polyloop::run(async {
/// let (one, other) = UnixStream::pair()?;
/// one.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// other.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UnixStream {
    fd: AsyncFd<net::UnixStream>,
}

impl UnixStream {
    /// Connects to the listener at `path`; on Linux `"\0name"` is an abstract name.
    ///
    /// A listener whose queue is full is waited for.
    ///
    /// # Errors
    /// What the system says, such as [`NotFound`](io::ErrorKind::NotFound), or
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if the listener is gone and its
    /// file is not. [`InvalidInput`](io::ErrorKind::InvalidInput) for a path of more than about a
    /// hundred bytes.
    ///
    /// # Cancel safety
    /// The connection is given up.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let socket = connect(Type::STREAM, path.as_ref()).await?;
        Ok(UnixStream::from_nonblocking(socket.into()))
    }

    /// Makes two that are connected to each other.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::from_std(one)?, UnixStream::from_std(other)?))
    }

    /// Takes a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(stream: net::UnixStream) -> io::Result<UnixStream> {
        Ok(UnixStream { fd: AsyncFd::new(stream)? })
    }

    /// Gives the connection to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<net::UnixStream> {
        let stream = into_std(self.fd, net::UnixStream::try_clone)?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    pub(super) fn from_nonblocking(stream: net::UnixStream) -> UnixStream {
        UnixStream { fd: AsyncFd::from_nonblocking(stream) }
    }

    pub(crate) fn fd(&self) -> &AsyncFd<net::UnixStream> {
        &self.fd
    }

    /// Waits until an operation in `direction` is worth trying, as `readable` and `writable` do.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ready(&self, direction: Direction) -> io::Result<()> {
        self.fd.ready(direction).await
    }

    /// Closes one direction or both, for all who share the connection.
    ///
    /// Closing for writing tells the peer that no more will come; what was written before still
    /// arrives. Closing what is closed already is fine.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// [shutdown(2)](https://man7.org/linux/man-pages/man2/shutdown.2.html).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.fd.get_ref().shutdown(how) {
            // The peer is gone: there is nothing left to close.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Returns this side's address; mostly it has no name.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Returns the other side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().peer_addr()
    }

    /// Takes the error that is pending on the socket, if there is one.
    ///
    /// # Errors
    /// What the system says of the question itself.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.fd.get_ref().take_error()
    }

    /// Lends the two directions to two pieces of code.
    pub fn split(&self) -> (ReadHalf<'_, UnixStream>, WriteHalf<'_, UnixStream>) {
        split::split(self)
    }

    /// Splits the connection into two directions that can go to two tasks, or to two loops.
    pub fn into_split(self) -> (OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>) {
        split::into_split(self)
    }
}

reading!(UnixStream);
peeking!(UnixStream);
writing!(UnixStream);
credentials!(UnixStream);
passing!(UnixStream);

impl split::sealed::Connection for UnixStream {
    type Io = net::UnixStream;

    fn fd(&self) -> &AsyncFd<net::UnixStream> {
        &self.fd
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        UnixStream::shutdown(self, how)
    }
}

impl AsFd for UnixStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
