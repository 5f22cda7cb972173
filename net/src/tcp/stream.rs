//! A connection.

use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use polyloop_executor::timeout;
use polyloop_reactor::Direction;
use socket2::SockRef;

use super::connect::connect_any;
use crate::addr::ToAddrs;
use crate::async_fd::into_std;
use crate::byte_stream::{peeking, reading, writing};
use crate::split::{self, OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use crate::{AsyncFd, lookup_host, units};

/// A TCP connection.
///
/// All methods take `&self`: one task may read while another writes. Several tasks may even wait
/// for the same direction; each is woken, and one gets the data.
///
/// Writing to a connection that the peer has closed is an error, never a `SIGPIPE`.
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
    /// Connects to the first of the addresses that answers.
    ///
    /// A name in place of an address is looked up as in [`lookup_host`]. If it has several
    /// addresses they are tried in turn, IPv6 and IPv4 alternating, with a head start of 250 ms
    /// for each, and the first that answers is taken.
    ///
    /// # Errors
    /// What the system says; if there were several addresses, of each of them. Of a name that
    /// cannot be looked up, which. A client that was connected to itself, as may happen on
    /// loopback to a port where nobody listens, is refused.
    ///
    /// # Cancel safety
    /// The connection is given up.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html),
    /// [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305).
    pub async fn connect(addr: impl ToAddrs) -> io::Result<TcpStream> {
        connect_any(lookup_host(addr).await?).await
    }

    /// Connects as [`connect`](TcpStream::connect) does, within `limit` at most, the lookup
    /// included.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) when the time is over; as for `connect`.
    ///
    /// # Cancel safety
    /// The connection is given up.
    pub async fn connect_timeout(addr: impl ToAddrs, limit: Duration) -> io::Result<TcpStream> {
        timeout(limit, TcpStream::connect(addr)).await?
    }

    /// Takes a connection of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(stream: net::TcpStream) -> io::Result<TcpStream> {
        Ok(TcpStream { fd: AsyncFd::new(stream)? })
    }

    /// Gives the connection to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        let stream = into_std(self.fd, net::TcpStream::try_clone)?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    pub(crate) fn fd(&self) -> &AsyncFd<net::TcpStream> {
        &self.fd
    }

    pub(crate) fn from_nonblocking(stream: net::TcpStream) -> TcpStream {
        TcpStream { fd: AsyncFd::from_nonblocking(stream) }
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
            // The peer has reset the connection: there is nothing left to close.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    /// Sends small writes at once (true) or collects them (false, the system's default).
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// `TCP_NODELAY` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.fd.get_ref().set_nodelay(nodelay)
    }

    /// Reports whether small writes are sent at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.fd.get_ref().nodelay()
    }

    /// Lets closing wait up to `linger` for what is still to be sent. Zero throws it away and
    /// resets the connection; none, the system's default, sends it in the background.
    ///
    /// Above zero, dropping the connection blocks the loop for up to as long. The time is rounded
    /// up to whole seconds, and bounded by what the system can count.
    ///
    /// # Errors
    /// The error of `setsockopt`.
    ///
    /// # Platform
    /// The bound is 2,147,483,647 seconds on Linux, 327 on macOS and 32,767 on the BSDs.
    ///
    /// # References
    /// `SO_LINGER` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger.map(units::linger))
    }

    /// Reports what closing does with what is still to be sent.
    ///
    /// # Errors
    /// What the system says.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
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

    /// Returns this side's address.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Returns the other side's address.
    ///
    /// # Errors
    /// [`NotConnected`](io::ErrorKind::NotConnected) once the peer has reset the connection.
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
    pub fn split(&self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::split(self)
    }

    /// Splits the connection into two directions that can go to two tasks, or to two loops.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::into_split(self)
    }
}

reading!(TcpStream);
peeking!(TcpStream);
writing!(TcpStream);

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
