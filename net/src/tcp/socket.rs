//! A TCP socket that is neither listening nor connected yet.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use polyloop_reactor::socket::{set_fast_open, set_fast_open_connect};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::connect::connect;
use super::{TcpListener, TcpStream};
use crate::units;

/// Sets what has to be set before a socket listens or connects.
///
/// Every setting takes effect at once and gives the socket back, so the first that the system
/// refuses is the error. What is set for a listener goes over to its connections.
///
/// What is not here can be set through [`AsFd`], with the `socket2` crate's `SockRef`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::net::{Keepalive, TcpSocket};
///
/// # polyloop::run(async {
/// let listener = TcpSocket::v4()?
///     .reuse_address(true)?
///     .recv_buffer_size(256 * 1024)?
///     .bind("127.0.0.1:0".parse().unwrap())?
///     .listen(1_024)?;
/// let client = TcpSocket::v4()?
///     .nodelay(true)?
///     .keepalive(Keepalive::after(Duration::from_secs(60)))?
///     .connect(listener.local_addr()?)
///     .await?;
/// assert!(client.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[must_use = "a socket that neither listens nor connects does nothing"]
pub struct TcpSocket {
    socket: Socket,
    is_v6: bool,
    is_bound: bool,
}

/// Says when a connection that is silent is asked whether the other side is still there.
///
/// Times are rounded up to whole seconds, and bounded by 32,767 of them (nine hours).
///
/// # References
/// `SO_KEEPALIVE` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html),
/// `TCP_KEEPIDLE` and others in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    idle: Duration,
    interval: Option<Duration>,
    retries: Option<u32>,
}

impl Keepalive {
    /// Asks for the first time after `idle`.
    pub fn after(idle: Duration) -> Keepalive {
        Keepalive { idle, interval: None, retries: None }
    }

    /// Asks again after each `interval` without an answer.
    pub fn interval(mut self, interval: Duration) -> Keepalive {
        self.interval = Some(interval);
        self
    }

    /// Gives the connection up after `retries` questions without an answer, at most 127.
    pub fn retries(mut self, retries: u32) -> Keepalive {
        self.retries = Some(retries);
        self
    }
}

impl TcpSocket {
    /// Makes a socket for IPv4.
    ///
    /// # Errors
    /// What the system says, such as having no descriptor left.
    pub fn v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV4)
    }

    /// Makes a socket for IPv6.
    ///
    /// # Errors
    /// What the system says.
    pub fn v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV6)
    }

    /// Makes a socket for addresses of the kind that `addr` is of.
    ///
    /// # Errors
    /// What the system says.
    pub fn for_addr(addr: SocketAddr) -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::for_address(addr))
    }

    fn new(domain: Domain) -> io::Result<TcpSocket> {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(TcpSocket { socket, is_v6: domain == Domain::IPV6, is_bound: false })
    }

    /// Allows an address whose last connections are still being wound up.
    ///
    /// # Errors
    /// What the system says.
    pub fn reuse_address(self, reuse: bool) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_reuse_address(reuse))
    }

    /// Allows several listeners on one address: the system spreads the connections over them.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Platform
    /// Linux spreads; elsewhere the listener that came last may get all.
    ///
    /// # References
    /// `SO_REUSEPORT` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn reuse_port(self, reuse: bool) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_reuse_port(reuse))
    }

    /// Keeps IPv4 away from a socket for IPv6, or lets it in as mapped addresses.
    ///
    /// # Errors
    /// What the system says.
    pub fn only_v6(self, only_v6: bool) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_only_v6(only_v6))
    }

    /// Sends small writes at once (true) or collects them (false, the system's default).
    ///
    /// # Errors
    /// What the system says.
    pub fn nodelay(self, nodelay: bool) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_tcp_nodelay(nodelay))
    }

    /// Asks silent connections whether they are still there.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a time or a number of zero; the error of
    /// `setsockopt`.
    pub fn keepalive(self, keepalive: Keepalive) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_tcp_keepalive(&os::keepalive(keepalive)?))
    }

    /// Requests a send buffer of this many bytes; the system may round, double or bound it.
    ///
    /// # Errors
    /// What the system says.
    pub fn send_buffer_size(self, n_bytes: usize) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_send_buffer_size(units::size(n_bytes)))
    }

    /// Requests a receive buffer of this many bytes; the system may round, double or bound it.
    ///
    /// # Errors
    /// What the system says.
    pub fn recv_buffer_size(self, n_bytes: usize) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_recv_buffer_size(units::size(n_bytes)))
    }

    /// Bounds the routers that a packet may pass.
    ///
    /// # Errors
    /// What the system says, such as `InvalidInput` for more than 255.
    pub fn ttl(self, ttl: u32) -> io::Result<TcpSocket> {
        let (is_v6, ttl) = (self.is_v6, units::octet(ttl)?);
        self.with(|socket| match is_v6 {
            true => socket.set_unicast_hops_v6(ttl),
            false => socket.set_ttl_v4(ttl),
        })
    }

    /// Marks the packets with a type of service (IPv4) or traffic class (IPv6).
    ///
    /// # Errors
    /// `InvalidInput` for more than 255; the error of `setsockopt`.
    pub fn tos(self, tos: u32) -> io::Result<TcpSocket> {
        let (is_v6, tos) = (self.is_v6, units::octet(tos)?);
        self.with(|socket| match is_v6 {
            true => os::set_traffic_class(socket, tos),
            false => socket.set_tos_v4(tos),
        })
    }

    /// Lets closing wait up to `linger` for what is still to be sent. Zero throws it away and
    /// resets the connection.
    ///
    /// The time is rounded up to whole seconds and bounded as in [`TcpStream::set_linger`]. Above
    /// zero, dropping the connection blocks the loop for up to as long.
    ///
    /// # Errors
    /// The error of `setsockopt`.
    pub fn linger(self, linger: Option<Duration>) -> io::Result<TcpSocket> {
        self.with(|socket| socket.set_linger(linger.map(units::linger)))
    }

    /// Uses one network device only, named as in `"eth0"`.
    ///
    /// # Errors
    /// What the system says, such as `NotFound` for a device that is not there; `Unsupported`
    /// where the system lacks it.
    ///
    /// # Platform
    /// Linux.
    pub fn bind_device(self, name: &str) -> io::Result<TcpSocket> {
        self.with(|socket| os::bind_device(socket, name))
    }

    /// Gives a connection up when sent data was not acknowledged for this long. Zero is the
    /// system's default.
    ///
    /// The time is rounded up to whole milliseconds and bounded by 2,147,483,647 of them
    /// (24 days).
    ///
    /// # Errors
    /// What the system says; `Unsupported` where the system lacks it.
    ///
    /// # Platform
    /// Linux.
    ///
    /// # References
    /// `TCP_USER_TIMEOUT` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
    pub fn user_timeout(self, timeout: Duration) -> io::Result<TcpSocket> {
        self.with(|socket| os::set_user_timeout(socket, units::milliseconds(timeout)))
    }

    /// Takes data with the connection request from clients that were here before: up to `queue`
    /// of such connections may wait. For a listener.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where the system lacks it.
    ///
    /// # References
    /// `TCP_FASTOPEN` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), RFC 7413.
    pub fn fast_open(self, queue: u32) -> io::Result<TcpSocket> {
        self.with(|socket| set_fast_open(socket.as_fd(), i32::try_from(queue).unwrap_or(i32::MAX)))
    }

    /// Sends the first data with the connection request, to servers that were seen before. For a
    /// client: [`connect`](TcpSocket::connect) may then return before the server has answered.
    ///
    /// The connection to such a server is requested by the first write, and not before. A client that reads first, as in a
    /// protocol where the server speaks first, waits indefinitely: it must not set this option.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where the system lacks it.
    ///
    /// # Platform
    /// Linux.
    pub fn fast_open_connect(self, fast_open: bool) -> io::Result<TcpSocket> {
        self.with(|socket| set_fast_open_connect(socket.as_fd(), fast_open))
    }

    /// Takes an address of this host; port 0 is any free port.
    ///
    /// # Errors
    /// What the system says, such as [`AddrInUse`](io::ErrorKind::AddrInUse).
    ///
    /// # References
    /// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
    pub fn bind(mut self, addr: SocketAddr) -> io::Result<TcpSocket> {
        self.is_bound = true;
        self.with(|socket| socket.bind(&addr.into()))
    }

    /// Listens for connections; up to `backlog` of them wait to be accepted.
    ///
    /// The system cuts the backlog down to its own limit.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// [listen(2)](https://man7.org/linux/man-pages/man2/listen.2.html).
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(TcpListener::from_nonblocking(self.socket.into()))
    }

    /// Connects to `addr`.
    ///
    /// # Errors
    /// What the system says, such as [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
    ///
    /// # Cancel safety
    /// The connection is given up.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        connect(self.socket, addr, self.is_bound).await
    }

    /// Returns the address of this side.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.socket.local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn with(self, set: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<TcpSocket> {
        set(&self.socket)?;
        Ok(self)
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpSocket").field(&self.socket).finish()
    }
}

/// What is there on some systems only.
mod os {
    use super::*;

    pub(super) fn keepalive(keepalive: Keepalive) -> io::Result<TcpKeepalive> {
        let params = TcpKeepalive::new().with_time(units::keepalive(keepalive.idle)?);
        #[cfg(not(target_os = "openbsd"))]
        let params = match keepalive.interval {
            Some(interval) => params.with_interval(units::keepalive(interval)?),
            None => params,
        };
        #[cfg(not(target_os = "openbsd"))]
        let params = match keepalive.retries {
            Some(retries) => params.with_retries(units::keepalive_retries(retries)?),
            None => params,
        };
        Ok(params)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn bind_device(socket: &Socket, name: &str) -> io::Result<()> {
        socket.bind_device(Some(name.as_bytes()))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn set_user_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
        socket.set_tcp_user_timeout(Some(timeout))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn bind_device(_: &Socket, _: &str) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "binding to a device needs Linux"))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn set_user_timeout(_: &Socket, _: Duration) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the user timeout needs Linux"))
    }

    #[cfg(not(all(target_vendor = "apple", not(target_os = "macos"))))]
    pub(super) fn set_traffic_class(socket: &Socket, class: u32) -> io::Result<()> {
        socket.set_tclass_v6(class)
    }

    #[cfg(all(target_vendor = "apple", not(target_os = "macos")))]
    pub(super) fn set_traffic_class(_: &Socket, _: u32) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "there is no traffic class here"))
    }
}
