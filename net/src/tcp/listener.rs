//! Accepting connections.

use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{SockAddr, Socket};

use super::{TcpSocket, TcpStream};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};
use crate::addr::{ToAddrs, find_now};
use crate::async_fd::into_std;

/// The connections that the system keeps waiting to be accepted.
///
/// The system cuts it down to its own limit (`net.core.somaxconn`, 4,096 on current Linux).
const BACKLOG: u32 = 4_096;

/// Listens for connections.
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
    /// Listens on the first of the addresses that can be had; port 0 is any free port.
    ///
    /// `SO_REUSEADDR` is set, so that a server can be started again at once. A name in place of
    /// an address is looked up here and now, which may take its time.
    ///
    /// # Errors
    /// What the system says of the last address, such as
    /// [`AddrInUse`](io::ErrorKind::AddrInUse).
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

    /// Takes a listener of the standard library and makes it non-blocking.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(listener: net::TcpListener) -> io::Result<TcpListener> {
        Ok(TcpListener { fd: AsyncFd::new(listener)? })
    }

    pub(super) fn from_nonblocking(listener: net::TcpListener) -> TcpListener {
        TcpListener { fd: AsyncFd::from_nonblocking(listener) }
    }

    /// Gives the listener to the standard library, in blocking mode.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<net::TcpListener> {
        let listener = into_std(self.fd, net::TcpListener::try_clone)?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }
}

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

/// Returns the peer's address of a connection that was just accepted, as `accept` reported it.
fn peer_of(socket: Socket, addr: SockAddr) -> io::Result<(Socket, SocketAddr)> {
    // macOS reports no address for a client that reset the connection before it was accepted.
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
