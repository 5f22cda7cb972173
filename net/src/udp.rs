//! UDP.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;
use polyloop_reactor::socket::{Received, receive, receive_many, send_many};

use crate::addr::{ToAddrs, find_now};
use crate::async_fd::into_std;
use crate::{AsyncFd, lookup_host, units};

/// Sends and receives datagrams.
///
/// A datagram is received whole or cut, never in two parts. An empty one is a message like any
/// other, and not an end. The largest carries 65,507 bytes over IPv4.
///
/// What the network reports of datagrams that could not be delivered (ICMP) arrives at connected
/// sockets, as an error of the next operation, once; the socket goes on working.
///
/// # Examples
/// ```
/// use polyloop::net::UdpSocket;
///
/// # polyloop::run(async {
/// let server = UdpSocket::bind("127.0.0.1:0")?;
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"hello", server.local_addr()?).await?;
///
/// let mut buf = [0; 1_500];
/// let (n_bytes, from) = server.recv_from(&mut buf).await?;
/// assert_eq!(&buf[..n_bytes], b"hello");
/// assert_eq!(from, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    fd: AsyncFd<net::UdpSocket>,
}

impl UdpSocket {
    /// Takes the first of the addresses that can be had; port 0 is any free port.
    ///
    /// A name in place of an address is looked up here and now, which may take its time.
    ///
    /// # Errors
    /// What the system says of the last address, such as
    /// [`AddrInUse`](io::ErrorKind::AddrInUse).
    ///
    /// # References
    /// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
    pub fn bind(addr: impl ToAddrs) -> io::Result<UdpSocket> {
        UdpSocket::from_std(net::UdpSocket::bind(&*find_now(addr)?)?)
    }

    /// Takes a socket of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(socket: net::UdpSocket) -> io::Result<UdpSocket> {
        Ok(UdpSocket { fd: AsyncFd::new(socket)? })
    }

    /// Gives the socket to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<net::UdpSocket> {
        let socket = into_std(self.fd, net::UdpSocket::try_clone)?;
        socket.set_nonblocking(false)?;
        Ok(socket)
    }

    /// Sends to, and receives from, one address only: the first that the system takes.
    ///
    /// No packet is sent for it. A name is looked up as in [`lookup_host`].
    ///
    /// # Errors
    /// What the system says of the last address; of a name that cannot be looked up, which.
    ///
    /// # Cancel safety
    /// The socket is connected or it is not.
    ///
    /// # References
    /// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
    pub async fn connect(&self, addr: impl ToAddrs) -> io::Result<()> {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to");
        let mut result = Err(nothing);
        for addr in lookup_host(addr).await? {
            result = self.fd.get_ref().connect(addr);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Sends a datagram to `addr`, and returns its size.
    ///
    /// # Errors
    /// What the system says: of more than 65,507 bytes that it is too long.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
    ///
    /// # References
    /// [sendto(2)](https://man7.org/linux/man-pages/man2/send.2.html).
    pub async fn send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.fd.async_io(Direction::Write, |socket| socket.send_to(buf, addr)).await
    }

    /// Sends a datagram to the connected address, and returns its size.
    ///
    /// # Errors
    /// What the system says; what was reported of an earlier datagram, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): this one was then not sent.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.async_io(Direction::Write, |socket| socket.send(buf)).await
    }

    /// Sends several datagrams, each to its own address, as far as there is room now. Waits for
    /// the first. Returns how many were sent.
    ///
    /// # Errors
    /// What the system says of the first; an error that comes later is told by the next call.
    ///
    /// # Cancel safety
    /// Nothing was sent if the future is dropped before it is ready.
    ///
    /// # Platform
    /// One system call for up to 32 datagrams on Linux; elsewhere one for each.
    ///
    /// # References
    /// [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
    pub async fn send_many(&self, messages: &[(&[u8], SocketAddr)]) -> io::Result<usize> {
        if messages.is_empty() {
            poll_fn(poll_proceed).await;
            return Ok(0);
        }
        let send = |socket: &net::UdpSocket| {
            send_many(socket.as_fd(), messages, |buf, addr| socket.send_to(buf, addr))
        };
        self.fd.async_io(Direction::Write, send).await
    }

    /// Receives a datagram, and returns its size and its sender.
    ///
    /// Of one that is longer than `buf` the rest is lost; [`receive`](UdpSocket::receive) tells.
    ///
    /// # Errors
    /// What the system says; what was reported of a datagram that was sent.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    ///
    /// # References
    /// [recvfrom(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.fd.async_io(Direction::Read, |socket| socket.recv_from(buf)).await
    }

    /// Receives a datagram, and returns its size. Meant for connected sockets.
    ///
    /// Of one that is longer than `buf` the rest is lost; [`receive`](UdpSocket::receive) tells.
    ///
    /// # Errors
    /// What the system says; what was reported of a datagram that was sent, such as
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.fd.async_io(Direction::Read, |socket| socket.recv(buf)).await
    }

    /// Receives a datagram, and says all about it: its size, its sender, and whether it was
    /// longer than `buf`.
    ///
    /// # Errors
    /// What the system says; what was reported of a datagram that was sent.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    ///
    /// # References
    /// `MSG_TRUNC` in [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
    ///
    /// # Examples
    /// ```
    /// use polyloop::net::UdpSocket;
    ///
    /// # polyloop::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0")?;
    /// socket.send_to(b"longer than four bytes", socket.local_addr()?).await?;
    /// let received = socket.receive(&mut [0; 4]).await?;
    /// assert_eq!((received.n_bytes, received.is_truncated), (4, true));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    pub async fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false)).await
    }

    /// Receives as many datagrams as are there now, one into each buffer, and describes them at
    /// the end of `received`. Waits for the first. Returns how many there were.
    ///
    /// # Errors
    /// What the system says; what was reported of a datagram that was sent.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    ///
    /// # Platform
    /// One system call for up to 32 datagrams on Linux; elsewhere one for each.
    ///
    /// # References
    /// [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html).
    pub async fn receive_many(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<usize> {
        if bufs.is_empty() {
            return Ok(0);
        }
        let receive = |socket: &net::UdpSocket| receive_many(socket.as_fd(), bufs, received);
        self.fd.async_io(Direction::Read, receive).await
    }

    /// Receives like [`receive`](UdpSocket::receive), but leaves the datagram to be received
    /// again.
    ///
    /// # Errors
    /// As for `receive`.
    ///
    /// # Cancel safety
    /// No datagram is lost.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.async_io(Direction::Read, |socket| receive(socket.as_fd(), buf, true)).await
    }

    /// Waits until something was received, or an error.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Read).await
    }

    /// Waits until there is room to send.
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
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is; as for
    /// [`receive`](UdpSocket::receive).
    pub fn try_receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.fd.try_io(Direction::Read, |socket| receive(socket.as_fd(), buf, false))
    }

    /// Sends to `addr` if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; as for
    /// [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send_to(buf, addr))
    }

    /// Sends to the connected address if there is room now.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; as for
    /// [`send`](UdpSocket::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send(buf))
    }

    /// Returns this side's address.
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

    /// Takes the error that is pending on the socket, if there is one.
    ///
    /// # Errors
    /// What the system says of the question itself.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.fd.get_ref().take_error()
    }

    /// Allows sending to broadcast addresses.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.fd.get_ref().set_broadcast(broadcast)
    }

    /// Reports whether sending to broadcast addresses is allowed.
    ///
    /// # Errors
    /// What the system says.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.fd.get_ref().broadcast()
    }

    /// Bounds the routers that a datagram may pass.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.fd.get_ref().set_ttl(units::octet(ttl)?)
    }

    /// Returns the bound on the routers that a datagram may pass.
    ///
    /// # Errors
    /// What the system says.
    pub fn ttl(&self) -> io::Result<u32> {
        self.fd.get_ref().ttl()
    }

    /// Joins a group, on the device with the address `interface`; unspecified is any.
    ///
    /// # Errors
    /// What the system says, such as `InvalidInput` for an address that is no group's.
    ///
    /// # References
    /// `IP_ADD_MEMBERSHIP` in [ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html).
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.fd.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// What the system says, such as `AddrNotAvailable` for a group that was not joined.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.fd.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Joins a group, on the device with the number `interface`; zero is any.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # References
    /// `IPV6_ADD_MEMBERSHIP` in [ipv6(7)](https://man7.org/linux/man-pages/man7/ipv6.7.html).
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.fd.get_ref().join_multicast_v6(&group, interface)
    }

    /// Leaves a group.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.fd.get_ref().leave_multicast_v6(&group, interface)
    }

    /// Sends to groups through the device with the address `interface`.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_multicast_interface_v4(&self, interface: Ipv4Addr) -> io::Result<()> {
        socket2::SockRef::from(self).set_multicast_if_v4(&interface)
    }

    /// Lets this host hear what it sends to groups itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_multicast_loop_v4(&self, hear: bool) -> io::Result<()> {
        self.fd.get_ref().set_multicast_loop_v4(hear)
    }

    /// Lets this host hear what it sends to groups itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_multicast_loop_v6(&self, hear: bool) -> io::Result<()> {
        self.fd.get_ref().set_multicast_loop_v6(hear)
    }

    /// Bounds the routers that a datagram to a group may pass: 1 by default, this network only.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.fd.get_ref().set_multicast_ttl_v4(units::octet(ttl)?)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
