//! Accepting connections, written once for all listeners.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use polyloop_reactor::Direction;
use socket2::{SockAddr, SockRef, Socket};

use crate::TcpListener;
use crate::async_fd::Waiter;

/// Accepts connections: [`TcpListener`], [`UnixListener`](crate::UnixListener) and `UnixSeqpacketListener`.
///
/// This trait is sealed and cannot be implemented outside of this crate.
pub trait Listener: sealed::Listener {}

impl<L: sealed::Listener> Listener for L {}

pub(crate) mod sealed {
    use std::fmt;
    use std::io;
    use std::os::fd::AsFd;

    use crate::AsyncFd;

    /// The parts of a listener.
    pub trait Listener: 'static {
        /// The socket.
        type Io: AsFd + Send + Sync + fmt::Debug + 'static;

        /// A connection.
        type Stream: 'static;

        /// The address of a peer.
        type Addr: Clone + fmt::Debug + 'static;

        /// Returns the socket.
        fn fd(&self) -> &AsyncFd<Self::Io>;

        /// Returns the local address.
        fn local_addr(&self) -> io::Result<Self::Addr>;

        /// Accepts a connection without waiting.
        fn accept(io: &Self::Io) -> io::Result<(Self::Stream, Self::Addr)>;
    }
}

/// Yields the connections of a listener. Made by `incoming`, such as [`TcpListener::incoming`].
///
/// The stream does not end. Its errors are those of `accept`, and it continues after each.
///
/// # Cancel safety
/// No connection is accepted and lost: one that was not returned is returned by the next poll.
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a, L: Listener = TcpListener> {
    waiter: Waiter<'a, L::Io>,
}

impl<'a, L: Listener> Incoming<'a, L> {
    pub(crate) fn new(listener: &'a L) -> Incoming<'a, L> {
        Incoming { waiter: waiter(listener) }
    }
}

impl<L: Listener> Stream for Incoming<'_, L> {
    type Item = io::Result<L::Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(self.waiter.poll_io(cx, L::accept));
        Poll::Ready(Some(accepted.map(|(stream, _)| stream)))
    }
}

impl<L: Listener> fmt::Debug for Incoming<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("waiter", &self.waiter).finish()
    }
}

/// Creates the waiter for connections to a listener.
pub(crate) fn waiter<L: Listener>(listener: &L) -> Waiter<'_, L::Io> {
    Waiter::new(listener.fd(), Direction::Read)
}

/// Implements the methods that all listeners have.
macro_rules! listening {
    ($listener:ty => $stream:ty, $addr:ty) => {
        impl $listener {
            /// Waits for a connection and accepts it. Connections that clients have aborted in the queue are skipped.
            ///
            /// # Errors
            /// Returns the errors of accept(2). [`AcceptErrorKind`](crate::AcceptErrorKind) says what to do
            /// about each. After `EMFILE` or `ENFILE` the connection is still in the queue and the listener still works:
            /// back off, or wait until a descriptor has been closed, and call `accept` again, as
            /// [`Server`](crate::Server) does.
            ///
            /// # Cancel safety
            /// No connection is accepted and lost.
            ///
            /// # References
            /// [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
            pub async fn accept(&self) -> std::io::Result<($stream, $addr)> {
                let accept = <$listener as $crate::accept::sealed::Listener>::accept;
                self.fd.async_io(polyloop_reactor::Direction::Read, accept).await
            }

            /// Accepts a connection without waiting.
            ///
            /// # Errors
            /// Returns [`WouldBlock`](std::io::ErrorKind::WouldBlock) if no connection is in the queue, and the errors
            /// of `accept`.
            pub fn try_accept(&self) -> std::io::Result<($stream, $addr)> {
                let accept = <$listener as $crate::accept::sealed::Listener>::accept;
                self.fd.try_io(polyloop_reactor::Direction::Read, accept)
            }

            /// Waits until a connection is in the queue.
            ///
            /// Readiness may be a false positive: another task or process may accept the connection first. Follow it
            /// with `try_accept`.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.fd.ready(polyloop_reactor::Direction::Read).await
            }

            /// Returns the connections as a stream, which does not end.
            ///
            /// # Examples
            /// ```no_run
            /// use std::pin::pin;
            /// use polyloop::Stream;
            /// use polyloop::net::TcpListener;
            ///
            /// # polyloop::run(async {
            /// let listener = TcpListener::bind("127.0.0.1:0")?;
            /// let mut incoming = pin!(listener.incoming());
            /// let stream = std::future::poll_fn(|cx| incoming.as_mut().poll_next(cx)).await;
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap().unwrap();
            /// ```
            pub fn incoming(&self) -> $crate::Incoming<'_, $listener> {
                $crate::Incoming::new(self)
            }
        }
    };
}

pub(crate) use listening;

/// The aborted connections that one attempt skips.
///
/// Each skip removes a connection from the queue, so the next one may succeed; without a bound, a system that keeps
/// returning the error would block the loop.
const MAX_SKIPPED: usize = 64;

/// Accepts a connection in non-blocking mode and with close-on-exec, in a single system call where there is one.
/// `peer_of` converts the peer's address.
pub(crate) fn accept<T: AsFd, A>(
    listener: &T,
    peer_of: impl Fn(Socket, SockAddr) -> io::Result<(Socket, A)>,
) -> io::Result<(Socket, A)> {
    let try_once = || accept_one(listener).and_then(|(socket, addr)| peer_of(socket, addr));
    let mut result = try_once();
    for _ in 1..MAX_SKIPPED {
        match result {
            // The client left before it was accepted, and has no task to report that to.
            Err(ref error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            _ => break,
        }
        result = try_once();
    }
    result
}

#[cfg(not(target_vendor = "apple"))]
fn accept_one<T: AsFd>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    use polyloop_reactor::socket::{ACCEPT_FLAGS, accept4_or};

    let listener = SockRef::from(listener);
    accept4_or(
        || listener.accept4(ACCEPT_FLAGS),
        || {
            let (socket, addr) = listener.accept_raw()?;
            socket.set_cloexec(true)?;
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        },
    )
}

#[cfg(target_vendor = "apple")]
fn accept_one<T: AsFd>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    let listener = SockRef::from(listener);
    // This also turns `SIGPIPE` off for the connection.
    match listener.accept() {
        Ok((socket, addr)) => {
            socket.set_nonblocking(true)?;
            Ok((socket, addr))
        }
        // accept(2) fails so if the socket does not listen. If it does, the error is that of setting an
        // option on a connection that the client has reset meanwhile.
        Err(error)
            if error.kind() == io::ErrorKind::InvalidInput
                && polyloop_reactor::socket::is_listener(listener.as_fd()).unwrap_or(false) =>
        {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Err(error) => Err(error),
    }
}
