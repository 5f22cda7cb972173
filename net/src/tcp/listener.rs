//! Listening for TCP connections.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{SockAddr, Socket};

use super::{TcpSocket, TcpStream};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};
use crate::addr::{ToAddrs, find_now};
use crate::methods::std_conversions;

/// The number of connections that may wait to be accepted.
///
/// The system limits it, on Linux to `net.core.somaxconn`, which is 4,096 by default.
const BACKLOG: u32 = 4_096;

/// Listens for TCP connections.
///
/// [`Server`](crate::Server) accepts connections in a loop, and handles errors and shutdown.
///
/// # Examples
/// ```
/// use polyloop::net::{TcpListener, TcpStream};
///
/// # polyloop::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = TcpStream::connect(listener.local_addr()?).await?;
/// let (server, peer) = listener.accept().await?;
/// assert_eq!(peer, client.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct TcpListener {
    fd: AsyncFd<net::TcpListener>,
}

impl TcpListener {
    /// Listens on the first of the addresses that can be bound. Port 0 requests a free port.
    ///
    /// `SO_REUSEADDR` is set, so that a server can restart immediately. If `addr` contains a host name, the
    /// lookup blocks the calling thread. For other options, use [`TcpSocket`].
    ///
    /// # Errors
    /// The error for the last address, such as [`AddrInUse`](io::ErrorKind::AddrInUse).
    ///
    /// # References
    /// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html),
    /// [listen(2)](https://man7.org/linux/man-pages/man2/listen.2.html).
    pub fn bind(addr: impl ToAddrs) -> io::Result<TcpListener> {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        let mut result = Err(nothing);
        for addr in find_now(addr)? {
            result = bind_one(addr);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    pub(super) fn from_nonblocking(listener: net::TcpListener) -> TcpListener {
        TcpListener { fd: AsyncFd::from_nonblocking(listener) }
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }
}

std_conversions!(TcpListener, net::TcpListener);
listening!(TcpListener => TcpStream, SocketAddr);

impl sealed::Listener for TcpListener {
    type Io = net::TcpListener;
    type Stream = TcpStream;
    type Addr = SocketAddr;

    fn fd(&self) -> &AsyncFd<net::TcpListener> {
        &self.fd
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }

    fn accept(listener: &net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = accept(listener, peer_of)?;
        Ok((TcpStream::from_nonblocking(socket.into()), peer))
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Returns an accepted connection with the address of its peer, which `accept` reported.
fn peer_of(socket: Socket, addr: SockAddr) -> io::Result<(Socket, SocketAddr)> {
    // macOS reports no address if the client reset the connection before it was accepted.
    let peer = addr.as_socket().ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket, peer))
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_for(addr)?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_connection_without_an_address_was_aborted() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let none = SockAddr::unix("").unwrap();
        let error = peer_of(socket, none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
