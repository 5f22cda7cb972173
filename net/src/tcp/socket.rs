//! A TCP socket that is neither listening nor connected yet.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use polyloop_reactor::socket::{set_fast_open, set_fast_open_connect};
use socket2::{Domain, Protocol, Socket, Type};

use super::connect::connect;
use super::{Keepalive, TcpListener, TcpStream, os};
use crate::units;

/// A TCP socket that is neither listening nor connected yet.
///
/// Use it to set options before a socket listens or connects. Connections inherit the options of their
/// listener. Options without a method here can be set through [`AsFd`], for example with `SockRef` of the
/// crate `socket2`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::net::{Keepalive, TcpSocket};
///
/// # polyloop::run(async {
/// let socket = TcpSocket::new_v4()?;
/// socket.set_reuseaddr(true)?;
/// socket.set_recv_buffer_size(256 * 1024)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let listener = socket.listen(1_024)?;
///
/// let socket = TcpSocket::new_v4()?;
/// socket.set_nodelay(true)?;
/// socket.set_keepalive(Keepalive::new(Duration::from_secs(60)))?;
/// let client = socket.connect(listener.local_addr()?).await?;
/// assert!(client.nodelay()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct TcpSocket {
    socket: Socket,
    is_v6: bool,
    is_bound: AtomicBool,
}

impl TcpSocket {
    /// Creates a socket for IPv4.
    pub fn new_v4() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV4)
    }

    /// Creates a socket for IPv6.
    pub fn new_v6() -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::IPV6)
    }

    /// Creates a socket for the address family of `addr`.
    pub fn new_for(addr: SocketAddr) -> io::Result<TcpSocket> {
        TcpSocket::new(Domain::for_address(addr))
    }

    fn new(domain: Domain) -> io::Result<TcpSocket> {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let (is_v6, is_bound) = (domain == Domain::IPV6, AtomicBool::new(false));
        Ok(TcpSocket { socket, is_v6, is_bound })
    }

    /// Sets whether the socket may bind an address with connections in the state `TIME_WAIT`
    /// (`SO_REUSEADDR`).
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.socket.set_reuse_address(reuseaddr)
    }

    /// Returns the value of `SO_REUSEADDR`.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        self.socket.reuse_address()
    }

    /// Sets whether several listeners may bind the same address (`SO_REUSEPORT`).
    ///
    /// # Platform
    /// Linux distributes connections among the listeners. Elsewhere, the listener that was bound last may
    /// get all of them.
    ///
    /// # References
    /// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.socket.set_reuse_port(reuseport)
    }

    /// Returns the value of `SO_REUSEPORT`.
    pub fn reuseport(&self) -> io::Result<bool> {
        self.socket.reuse_port()
    }

    /// Sets whether an IPv6 socket is restricted to IPv6, or also accepts IPv4 as mapped addresses
    /// (`IPV6_V6ONLY`).
    pub fn set_only_v6(&self, only_v6: bool) -> io::Result<()> {
        self.socket.set_only_v6(only_v6)
    }

    /// Returns the value of `IPV6_V6ONLY`.
    pub fn only_v6(&self) -> io::Result<bool> {
        self.socket.only_v6()
    }

    /// Sets whether small writes are sent immediately (`TCP_NODELAY`), or are collected first, which is
    /// the default.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.set_tcp_nodelay(nodelay)
    }

    /// Returns the value of `TCP_NODELAY`.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.tcp_nodelay()
    }

    /// Enables keepalive probes of silent connections (`SO_KEEPALIVE`).
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if a duration or a number in `keepalive` is zero.
    pub fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        self.socket.set_tcp_keepalive(&keepalive.to_params()?)
    }

    /// Returns the value of `SO_KEEPALIVE`.
    pub fn keepalive(&self) -> io::Result<bool> {
        self.socket.keepalive()
    }

    /// Sets the size of the send buffer in bytes (`SO_SNDBUF`). The system may round, double or limit it.
    pub fn set_send_buffer_size(&self, size: usize) -> io::Result<()> {
        self.socket.set_send_buffer_size(units::size(size))
    }

    /// Returns the size of the send buffer in bytes.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        self.socket.send_buffer_size()
    }

    /// Sets the size of the receive buffer in bytes (`SO_RCVBUF`). The system may round, double or limit
    /// it.
    pub fn set_recv_buffer_size(&self, size: usize) -> io::Result<()> {
        self.socket.set_recv_buffer_size(units::size(size))
    }

    /// Returns the size of the receive buffer in bytes.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        self.socket.recv_buffer_size()
    }

    /// Sets the time to live (IPv4) or hop limit (IPv6) of packets: the maximum number of hops.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = units::octet(ttl)?;
        if self.is_v6 { self.socket.set_unicast_hops_v6(ttl) } else { self.socket.set_ttl_v4(ttl) }
    }

    /// Returns the time to live (IPv4) or hop limit (IPv6) of packets.
    pub fn ttl(&self) -> io::Result<u32> {
        if self.is_v6 { self.socket.unicast_hops_v6() } else { self.socket.ttl_v4() }
    }

    /// Sets the type of service (IPv4) or traffic class (IPv6) of packets.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 255.
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        let tos = units::octet(tos)?;
        if self.is_v6 {
            os::set_traffic_class(&self.socket, tos)
        } else {
            self.socket.set_tos_v4(tos)
        }
    }

    /// Sets how long closing may wait for unsent data (`SO_LINGER`). Zero discards it and resets the
    /// connection.
    ///
    /// The duration is rounded up to seconds and limited as by [`TcpStream::set_linger`]. With a duration
    /// above zero, dropping the connection may block the loop for as long.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.socket.set_linger(linger.map(units::linger))
    }

    /// Returns how long closing may wait for unsent data.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        self.socket.linger()
    }

    /// Restricts the socket to the network interface with a name such as `"eth0"`.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) without the privilege `CAP_NET_RAW`;
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system has no such option.
    ///
    /// # Platform
    /// Linux.
    ///
    /// # References
    /// `SO_BINDTODEVICE` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
    pub fn bind_device(&self, interface: &str) -> io::Result<()> {
        os::bind_device(&self.socket, interface)
    }

    /// Sets how long sent data may remain unacknowledged before the connection is closed
    /// (`TCP_USER_TIMEOUT`). Zero selects the system's default.
    ///
    /// The duration is rounded up to milliseconds and limited to 2,147,483,647 ms (24 days).
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system has no such option.
    ///
    /// # Platform
    /// Linux.
    ///
    /// # References
    /// [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
    pub fn set_user_timeout(&self, timeout: Duration) -> io::Result<()> {
        os::set_user_timeout(&self.socket, units::milliseconds(timeout))
    }

    /// Lets a listener accept data together with the connection request of a known client
    /// (`TCP_FASTOPEN`), for up to `queue` connections that wait for the end of the handshake.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system has no such option.
    ///
    /// # References
    /// [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html),
    /// [RFC 7413](https://www.rfc-editor.org/rfc/rfc7413).
    pub fn set_fast_open(&self, queue: u32) -> io::Result<()> {
        set_fast_open(self.socket.as_fd(), i32::try_from(queue).unwrap_or(i32::MAX))
    }

    /// Sets whether a client sends its first data together with the connection request to a known server
    /// (`TCP_FASTOPEN_CONNECT`).
    ///
    /// [`connect`](TcpSocket::connect) then returns before the server has answered, and the first write
    /// requests the connection. A client that reads first waits indefinitely, so do not set this option if
    /// the server speaks first.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the system has no such option.
    ///
    /// # Platform
    /// Linux.
    pub fn set_fast_open_connect(&self, fast_open: bool) -> io::Result<()> {
        set_fast_open_connect(self.socket.as_fd(), fast_open)
    }

    /// Binds the socket to a local address. Port 0 requests a free port.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if the address is taken;
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if this host does not have it.
    ///
    /// # References
    /// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.socket.bind(&addr.into())?;
        self.is_bound.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Listens for connections, of which up to `backlog` may wait to be accepted.
    ///
    /// The system limits the backlog, on Linux to `net.core.somaxconn`.
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
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) if no process listens there, and others.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the connection attempt is aborted.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        connect(self.socket, addr, self.is_bound.into_inner()).await
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = self.socket.local_addr()?;
        addr.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
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
