//! UDP.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;
use polyloop_reactor::socket::{Received, recv_many, send_many};

use crate::addr::{ToAddrs, find_now};
use crate::methods::{addresses, datagrams, messages, std_conversions};
use crate::{AsyncFd, lookup_host};

mod options;

/// A UDP socket.
///
/// A datagram is received whole or truncated, never in several parts. It carries at most 65,507
/// bytes over IPv4, and may be empty.
///
/// When the network reports that a datagram could not be delivered (ICMP), a connected socket
/// returns that once as an error of its next operation, such as
/// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused). The operation was then not performed,
/// and the socket remains usable.
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
/// let (len, from) = server.recv_from(&mut buf).await?;
/// assert_eq!(&buf[..len], b"hello");
/// assert_eq!(from, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
///
/// A datagram that is longer than the buffer:
/// ```
/// use polyloop::net::UdpSocket;
///
/// # polyloop::run(async {
/// let socket = UdpSocket::bind("127.0.0.1:0")?;
/// socket.send_to(b"longer than four bytes", socket.local_addr()?).await?;
/// let received = socket.recv_msg(&mut [0; 4]).await?;
/// assert_eq!((received.len, received.is_truncated), (4, true));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    fd: AsyncFd<net::UdpSocket>,
}

impl UdpSocket {
    /// Binds a socket to the first of the addresses that can be bound. Port 0 requests a free port.
    ///
    /// If `addr` contains a host name, the lookup blocks the calling thread.
    ///
    /// # Errors
    /// The error for the last address, such as [`AddrInUse`](io::ErrorKind::AddrInUse).
    ///
    /// # References
    /// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
    pub fn bind(addr: impl ToAddrs) -> io::Result<UdpSocket> {
        UdpSocket::from_std(net::UdpSocket::bind(&*find_now(addr)?)?)
    }

    fn fd(&self) -> &AsyncFd<net::UdpSocket> {
        &self.fd
    }

    /// Connects the socket to the first of the addresses that the system accepts.
    ///
    /// Afterwards the socket sends to and receives from that address only. Connecting sends no
    /// packet. Host names are looked up as by [`lookup_host`].
    ///
    /// # Errors
    /// The error of the lookup, or the error for the last address.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the socket is not connected.
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

    /// Sends a datagram to `addr` and returns its size.
    ///
    /// # Errors
    /// `EMSGSIZE` for a datagram that is too long.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the datagram was not sent.
    ///
    /// # References
    /// [sendto(2)](https://man7.org/linux/man-pages/man2/send.2.html).
    pub async fn send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.fd.async_io(Direction::Write, |socket| socket.send_to(buf, addr)).await
    }

    /// Sends a datagram to the connected address and returns its size.
    ///
    /// # Errors
    /// `EMSGSIZE` for a datagram that is too long; the error that the network reported for an
    /// earlier datagram, such as [`ConnectionRefused`](io::ErrorKind::ConnectionRefused).
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the datagram was not sent.
    ///
    /// # References
    /// [send(2)](https://man7.org/linux/man-pages/man2/send.2.html).
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.async_io(Direction::Write, |socket| socket.send(buf)).await
    }

    /// Sends as many of the datagrams as there is room for, each to its own address, waiting until
    /// there is room for one.
    ///
    /// Returns the number of datagrams sent.
    ///
    /// # Errors
    /// The error for the first datagram. An error for a later one ends the call early; the next
    /// call returns it.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, no datagram was sent.
    ///
    /// # Platform
    /// On Linux, one system call sends up to 32 datagrams; elsewhere each takes one.
    ///
    /// # References
    /// [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
    #[doc(alias = "sendmmsg")]
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

    /// Receives as many datagrams as are available, one into each buffer, waiting for the first.
    ///
    /// Appends a description of each datagram to `received`, and returns their number.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, no datagram was received.
    ///
    /// # Platform
    /// On Linux, one system call receives up to 32 datagrams; elsewhere each takes one.
    ///
    /// # References
    /// [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html).
    #[doc(alias = "recvmmsg")]
    pub async fn recv_many(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<usize> {
        if bufs.is_empty() {
            return Ok(0);
        }
        let receive = |socket: &net::UdpSocket| recv_many(socket.as_fd(), bufs, received);
        self.fd.async_io(Direction::Read, receive).await
    }

    /// Sends a datagram to `addr` without waiting, and returns its size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; otherwise as for
    /// [`send_to`](UdpSocket::send_to).
    pub fn try_send_to(&self, buf: &[u8], addr: SocketAddr) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send_to(buf, addr))
    }

    /// Sends a datagram to the connected address without waiting, and returns its size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; otherwise as for
    /// [`send`](UdpSocket::send).
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.fd.try_io(Direction::Write, |socket| socket.send(buf))
    }
}

std_conversions!(UdpSocket, net::UdpSocket);
datagrams!(UdpSocket, net::UdpSocket, SocketAddr);
messages!(UdpSocket);
addresses!(UdpSocket, SocketAddr);

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
