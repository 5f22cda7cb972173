//! What a server's handler knows of its connection, and when that counts as idle.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use polyloop_executor::{CancellationToken, now, sleep};

/// Identifies one connection of a [`Server`](crate::Server) to its handler, and tells the handler when the
/// server is stopped.
///
/// # Examples
/// A handler that says goodbye when the server is stopped:
/// ```
/// use polyloop_executor::{Either, race};
/// use polyloop_net::{Server, TcpStream};
///
/// # polyloop_executor::run(async {
/// let server = Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addrs()[0];
/// let stop = server.stopper();
/// let serving = polyloop_executor::spawn(server.serve(async |stream: TcpStream, session| {
///     let mut buf = [0; 1024];
///     loop {
///         match race(session.stopped(), stream.read(&mut buf)).await {
///             Either::Left(()) => return stream.write_all(b"goodbye\n").await,
///             Either::Right(Ok(0)) => return Ok(()),
///             Either::Right(read) => {
///                 read?;
///                 stream.write_all(b"hello\n").await?;
///             }
///         }
///     }
/// }));
///
/// let client = TcpStream::connect(addr).await?;
/// client.write_all(b"?").await?;
/// client.read_exact(&mut [0; 6]).await?;
/// stop.stop();
/// let mut buf = [0; 8];
/// client.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"goodbye\n");
/// assert_eq!(serving.await??.n_served, 1);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone)]
pub struct Session<A = std::net::SocketAddr> {
    peer: A,
    stopped: CancellationToken,
}

impl<A> Session<A> {
    pub(crate) fn new(peer: A, stopped: CancellationToken) -> Session<A> {
        Session { peer, stopped }
    }

    /// Returns the client's address.
    pub fn peer(&self) -> &A {
        &self.peer
    }

    /// Waits until the server is [stopped](crate::Stopper::stop).
    ///
    /// From then on the handler has the time that [`Server::grace`](crate::Server::grace) grants. A handler
    /// that does not ask is cut off when that is over.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Reports whether the server has been stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }
}

impl<A: fmt::Debug> fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("is_stopped", &self.is_stopped())
            .finish()
    }
}

/// Runs a handler until it returns; `None` if it has had nothing to do for `limit` before that.
///
/// A handler is polled when something happens that it waits for: its connection can be read or written,
/// or a timer of its own is due. So the time since its last poll is the time that it has been idle, and
/// the operations of the connection need not be counted.
pub(crate) async fn end_when_idle<F: Future>(handler: F, limit: Duration) -> Option<F::Output> {
    let mut handler = pin!(handler);
    let mut active_at = now();
    // Armed again when it is due, and not at each poll, which is a reading of the clock then.
    let mut timer = sleep(limit);
    poll_fn(move |cx| {
        while Pin::new(&mut timer).poll(cx).is_ready() {
            let idle = now().saturating_duration_since(active_at);
            if idle >= limit {
                return Poll::Ready(None);
            }
            timer = sleep(limit - idle);
        }
        active_at = now();
        handler.as_mut().poll(cx).map(Some)
    })
    .await
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::pending;

    use polyloop_executor::Builder;

    use super::*;

    fn run<R>(future: impl Future<Output = R>) -> R {
        Builder::new().virtual_time(true).build().unwrap().block_on(future).unwrap()
    }

    #[test]
    fn a_handler_that_waits_for_nothing_that_comes_is_ended_after_the_limit() {
        run(async {
            let start = now();
            assert_eq!(end_when_idle(pending::<()>(), Duration::from_secs(3)).await, None);
            assert_eq!(now() - start, Duration::from_secs(3));
        });
    }

    #[test]
    fn the_limit_counts_from_the_last_time_that_the_handler_ran() {
        run(async {
            let start = now();
            let handler = async {
                for _ in 0..10 {
                    sleep(Duration::from_secs(2)).await;
                }
                pending::<()>().await;
            };
            assert_eq!(end_when_idle(handler, Duration::from_secs(3)).await, None);
            assert_eq!(now() - start, Duration::from_secs(23));
        });
    }

    #[test]
    fn a_handler_that_returns_in_time_keeps_its_result() {
        run(async {
            let handler = async {
                sleep(Duration::from_secs(2)).await;
                7
            };
            assert_eq!(end_when_idle(handler, Duration::from_secs(3)).await, Some(7));
            assert_eq!(end_when_idle(async { 8 }, Duration::ZERO).await, None);
        });
    }
}
