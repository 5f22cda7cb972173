//! Unix stream sockets.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use polyloop_reactor::Direction;
use socket2::Type;

use super::connect::connect;
use super::credentials::credentials;
use super::passing::passing;
use crate::AsyncFd;
use crate::byte_stream::{peeking, reading, writing};
use crate::methods::{addresses, std_conversions};
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};

/// A connected Unix stream socket.
///
/// All methods take `&self`, as those of [`TcpStream`](crate::TcpStream) do. Writing to a connection
/// that the peer has closed fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe) and never raises
/// `SIGPIPE`.
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
    /// Connects to the listener at `path`, or on Linux at an abstract name such as `"\0name"`.
    ///
    /// Waits while the queue of the listener is full.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if there is no such file;
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if its listener is closed;
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a path that is too long, which is more than 107
    /// bytes on Linux and 103 on the other systems.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the connection attempt is aborted.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        let socket = connect(Type::STREAM, path.as_ref()).await?;
        Ok(UnixStream::from_nonblocking(socket.into()))
    }

    /// Creates a pair of connected sockets.
    ///
    /// # References
    /// [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (one, other) = net::UnixStream::pair()?;
        Ok((UnixStream::from_std(one)?, UnixStream::from_std(other)?))
    }

    pub(super) fn from_nonblocking(stream: net::UnixStream) -> UnixStream {
        UnixStream { fd: AsyncFd::from_nonblocking(stream) }
    }

    pub(crate) fn fd(&self) -> &AsyncFd<net::UnixStream> {
        &self.fd
    }

    /// Waits until the stream is ready in `direction`, as `readable` and `writable` do.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the stream.
    pub async fn ready(&self, direction: Direction) -> io::Result<()> {
        self.fd.ready(direction).await
    }

    /// Shuts down the read direction, the write direction, or both.
    ///
    /// After the write direction is shut down, the peer reads what was written before and then the end of
    /// the stream. Shutting down a direction again, or after the peer has closed the connection, has no
    /// effect.
    ///
    /// # References
    /// [shutdown(2)](https://man7.org/linux/man-pages/man2/shutdown.2.html).
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.fd.get_ref().shutdown(how) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Splits the stream into a read half and a write half that borrow it.
    pub fn split(&self) -> (ReadHalf<'_, UnixStream>, WriteHalf<'_, UnixStream>) {
        split::split(self)
    }

    /// Splits the stream into a read half and a write half that own it together.
    ///
    /// The halves may move to different tasks or loops.
    pub fn into_split(self) -> (OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>) {
        split::into_split(self)
    }
}

reading!(UnixStream);
peeking!(UnixStream);
writing!(UnixStream);
passing!(UnixStream);
addresses!(UnixStream, SocketAddr);
credentials!(UnixStream);
std_conversions!(UnixStream, net::UnixStream);

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
