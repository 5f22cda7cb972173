//! Accepting connections.

use std::io;
use std::net::{self, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use polyloop_reactor::Direction;

use super::{TcpSocket, TcpStream};
use crate::async_fd::{Waiter, into_std};
use crate::{AsyncFd, accept};

/// The connections that the system keeps waiting to be accepted.
///
/// The system cuts it down to its own limit (`net.core.somaxconn`, 4,096 on current Linux).
const BACKLOG: u32 = 4_096;

/// Listens for connections.
///
/// # Examples
/// ```
/// use polyloop_net::{TcpListener, TcpStream};
///
/// # polyloop_executor::run(async {
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
    pub fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let nothing = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen on");
        let mut result = Err(nothing);
        for addr in addr.to_socket_addrs()? {
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

    pub(crate) fn waiter(&self) -> Waiter<'_, net::TcpListener> {
        Waiter::new(&self.fd, Direction::Read)
    }

    /// Waits for a connection and accepts it.
    ///
    /// # Errors
    /// What the system says; [`accept_failure`](crate::accept_failure) tells what to do about it.
    /// Running out of descriptors (`EMFILE`, `ENFILE`) or memory leaves the connection waiting
    /// and the listener working: wait for a moment, or until a connection was closed, and call
    /// again. Connections that were aborted while they waited are passed over.
    /// [`Server`](crate::Server) does all that.
    ///
    /// # Cancel safety
    /// No connection is accepted and lost.
    ///
    /// # References
    /// [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.fd.async_io(Direction::Read, accept).await
    }

    /// Accepts a connection that is waiting already.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if none is; as for
    /// [`accept`](TcpListener::accept).
    pub fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.fd.try_io(Direction::Read, accept)
    }

    /// Waits until a connection is there, or was a moment ago.
    ///
    /// # Errors
    /// What the selector says.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Direction::Read).await
    }

    /// Returns the connections as a stream, which never ends.
    ///
    /// # Examples
    /// ```no_run
    /// use std::pin::pin;
    /// use futures_core::Stream;
    /// use polyloop_net::TcpListener;
    ///
    /// # polyloop_executor::run(async {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut incoming = pin!(listener.incoming());
    /// let stream = std::future::poll_fn(|cx| incoming.as_mut().poll_next(cx)).await;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { waiter: self.waiter() }
    }

    /// Returns the address that is listened on.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Accepts connections, one after another. Made by [`TcpListener::incoming`].
///
/// Its errors are those of [`TcpListener::accept`]; it goes on after each.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    waiter: Waiter<'a, net::TcpListener>,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.waiter.poll_io(cx, accept));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpSocket::for_addr(addr)?.reuse_address(true)?.bind(addr)?.listen(BACKLOG)
}

pub(crate) fn accept(listener: &net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, addr) = accept::accept(listener)?;
    let stream = TcpStream::from_nonblocking(socket.into());
    let unknown = || io::Error::other("a TCP connection came from an address that is none");
    Ok((stream, addr.as_socket().ok_or_else(unknown)?))
}
