//! A TCP connection.

use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use polyloop_executor::timeout;
use polyloop_reactor::Direction;
use socket2::SockRef;

use super::connect::connect_any;
use crate::addr::ToAddrs;
use crate::byte_stream::{peeking, reading, writing};
use crate::methods::{addresses, std_conversions};
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::{AsyncFd, lookup_host, units};

/// A TCP connection between a local and a remote socket.
///
/// All methods take `&self`, so one task can read from a stream while another writes to it. If several
/// tasks wait for the same direction, each piece of data goes to one of them.
///
/// Dropping the stream closes the connection. Writing to a connection that the peer has closed returns an
/// error and never raises `SIGPIPE`.
///
/// The module [`io`](crate::io) has lines, frames and copies for streams.
///
/// # Examples
/// ```
/// use polyloop::net::{TcpListener, TcpStream};
///
/// # polyloop::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, _) = listener.accept().await?;
///
/// client.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// server.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct TcpStream {
    fd: AsyncFd<net::TcpStream>,
}

impl TcpStream {
    /// Opens a TCP connection to a remote host.
    ///
    /// `addr` is a socket address, or a host name with a port such as `"example.org:80"`, which is looked
    /// up as by [`lookup_host`]. If it resolves to several addresses, they are tried concurrently: IPv6 and
    /// IPv4 alternate, each attempt starts 250 ms after the previous one or when that fails, and the first
    /// connection established is returned.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `addr` is malformed or contains no address; the
    /// error of the lookup, with the host name; [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) and
    /// others if the connection fails. With several addresses, the message lists the error for each.
    ///
    /// A connection that the system has connected to itself is also refused. That can happen on loopback if
    /// no process listens on the port.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the connection attempt is aborted.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html),
    /// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305).
    pub async fn connect(addr: impl ToAddrs) -> io::Result<TcpStream> {
        connect_any(lookup_host(addr).await?).await
    }

    /// Opens a TCP connection as [`connect`](TcpStream::connect) does, with a time limit that includes the
    /// lookup.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if `limit` elapses first; otherwise as for `connect`.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the connection attempt is aborted.
    pub async fn connect_timeout(addr: impl ToAddrs, limit: Duration) -> io::Result<TcpStream> {
        timeout(limit, TcpStream::connect(addr)).await?
    }

    pub(crate) fn fd(&self) -> &AsyncFd<net::TcpStream> {
        &self.fd
    }

    pub(crate) fn from_nonblocking(stream: net::TcpStream) -> TcpStream {
        TcpStream { fd: AsyncFd::from_nonblocking(stream) }
    }

    /// Shuts down the read direction, the write direction, or both.
    ///
    /// After the write direction is shut down, the peer reads what was written before and then the end of
    /// the stream. Shutting down a direction again, or after the peer has reset the connection, has no
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

    /// Sets whether small writes are sent immediately (`TCP_NODELAY`), or are collected first, which is
    /// the default.
    ///
    /// # References
    /// [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.fd.get_ref().set_nodelay(nodelay)
    }

    /// Returns the value of `TCP_NODELAY`.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.fd.get_ref().nodelay()
    }

    /// Sets what closing does with unsent data (`SO_LINGER`).
    ///
    /// With `None`, the default, the system sends it in the background. With a duration above zero, closing
    /// waits for at most as long, so dropping the stream may block the loop. Zero discards the data and
    /// resets the connection.
    ///
    /// The duration is rounded up to seconds and limited to the system's maximum.
    ///
    /// # Platform
    /// The maximum is 2,147,483,647 seconds on Linux, 327 on macOS and 32,767 on the BSDs.
    ///
    /// # References
    /// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger.map(units::linger))
    }

    /// Returns the value of `SO_LINGER`.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    /// Waits until the stream is ready in `direction`, as `readable` and `writable` do.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the stream.
    pub async fn ready(&self, direction: Direction) -> io::Result<()> {
        self.fd.ready(direction).await
    }

    /// Splits the stream into a read half and a write half that borrow it.
    pub fn split(&self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::split(self)
    }

    /// Splits the stream into a read half and a write half that own it together.
    ///
    /// The halves may move to different tasks or loops.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::into_split(self)
    }
}

reading!(TcpStream);
peeking!(TcpStream);
writing!(TcpStream);
addresses!(TcpStream, SocketAddr);
std_conversions!(TcpStream, net::TcpStream);

impl split::sealed::Connection for TcpStream {
    type Io = net::TcpStream;

    fn fd(&self) -> &AsyncFd<net::TcpStream> {
        &self.fd
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        TcpStream::shutdown(self, how)
    }
}

impl AsFd for TcpStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
