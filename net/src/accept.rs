//! Accepting, for all listeners.

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

/// A socket that connections come to: [`TcpListener`], [`UnixListener`](crate::UnixListener) or
/// `UnixSeqpacketListener`.
///
/// Sealed: it is implemented for these and for no others.
pub trait Listener: sealed::Listener {}

impl<L: sealed::Listener> Listener for L {}

pub(crate) mod sealed {
    use std::fmt;
    use std::io;
    use std::os::fd::AsFd;

    use crate::AsyncFd;

    /// What is behind a listener.
    pub trait Listener: 'static {
        /// The socket.
        type Io: AsFd + Send + Sync + fmt::Debug + 'static;

        /// The connections.
        type Stream: 'static;

        /// The addresses.
        type Addr: Clone + fmt::Debug + 'static;

        /// Lends the socket.
        fn fd(&self) -> &AsyncFd<Self::Io>;

        /// Returns the address that is listened at.
        fn local_addr(&self) -> io::Result<Self::Addr>;

        /// Accepts a connection now.
        fn accept(io: &Self::Io) -> io::Result<(Self::Stream, Self::Addr)>;
    }
}

/// Accepts connections, one after another, as a stream that never ends. Made by `incoming`, as in
/// [`TcpListener::incoming`].
///
/// Its errors are those of `accept`; it goes on after each.
///
/// # Cancel safety
/// No connection is accepted and lost: one that was not returned comes with the next poll.
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

/// Prepares to wait for connections.
pub(crate) fn waiter<L: Listener>(listener: &L) -> Waiter<'_, L::Io> {
    Waiter::new(listener.fd(), Direction::Read)
}

/// Gives a listener the methods that all of them have.
macro_rules! listening {
    ($listener:ty => $stream:ty, $addr:ty) => {
        impl $listener {
            /// Waits for a connection and accepts it.
            ///
            /// # Errors
            /// What the system says; [`accept_failure`](crate::accept_failure) tells what to do
            /// about it. Running out of descriptors (`EMFILE`, `ENFILE`) or memory leaves the
            /// connection waiting and the listener working: wait for a moment, or until a
            /// connection was closed, and call again. Connections that were aborted while they
            /// waited are passed over. [`Server`](crate::Server) does all that.
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

            /// Accepts a connection that is waiting already.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none is; as for `accept`.
            pub fn try_accept(&self) -> std::io::Result<($stream, $addr)> {
                let accept = <$listener as $crate::accept::sealed::Listener>::accept;
                self.fd.try_io(polyloop_reactor::Direction::Read, accept)
            }

            /// Waits until a connection is there, or was a moment ago.
            ///
            /// # Errors
            /// What the selector says.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.fd.ready(polyloop_reactor::Direction::Read).await
            }

            /// Returns the connections as a stream, which never ends.
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

/// The aborted connections that one try passes over.
///
/// Each of them takes its place out of the queue, so the next one may be a good one; but a system
/// that said so again and again would keep the loop from everything else.
const ABORTED_PER_TRY: usize = 64;

/// Takes a connection out of the queue: non-blocking, close-on-exec, in one system call where the
/// system has it. `peer_of` makes the peer's address of what the system reported.
pub(crate) fn accept<T: AsFd, A>(
    listener: &T,
    peer_of: impl Fn(Socket, SockAddr) -> io::Result<(Socket, A)>,
) -> io::Result<(Socket, A)> {
    let try_once = || accept_one(listener).and_then(|(socket, addr)| peer_of(socket, addr));
    let mut result = try_once();
    for _ in 1..ABORTED_PER_TRY {
        match result {
            // The client gave up before it was its turn: there is no one to report it to.
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
        // The call itself says so of a socket that does not listen. Of one that does, it comes from
        // setting an option of a connection that the client has reset meanwhile.
        Err(error)
            if error.kind() == io::ErrorKind::InvalidInput
                && polyloop_reactor::socket::is_listener(listener.as_fd()).unwrap_or(false) =>
        {
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Err(error) => Err(error),
    }
}
