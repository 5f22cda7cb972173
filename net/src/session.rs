//! What a server's handler knows of its connection, and when that counts as idle.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use polyloop_executor::{CancellationToken, Sleep, now, sleep_until};

/// Identifies one connection of a [`Server`](crate::Server) to its handler, and tells the handler when the
/// server is stopped.
///
/// # Examples
/// A handler that says goodbye when the server is stopped:
/// ```
/// use polyloop::race;
/// use polyloop::future::Either;
/// use polyloop::net::{Server, TcpStream};
///
/// # polyloop::run(async {
/// let server = Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addrs()[0];
/// let stop = server.stopper();
/// let serving = polyloop::spawn(server.serve(async |stream: TcpStream, session| {
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

/// Finds the connections whose handlers have had nothing to do for too long.
///
/// A handler is polled when something happens that it waits for: its connection can be read or written,
/// or a timer of its own is due. So the time since its last poll is the time that it has been idle, and
/// the operations of the connection need not be counted. What looks for idle handlers must not be
/// a part of their tasks therefore: it is the server's.
///
/// Each connection is looked at once in the time of the limit, whatever happens on it.
pub(crate) struct IdleWatch {
    limit: Duration,
    /// When to look at which connection again.
    looks: BTreeSet<(Instant, u64)>,
    /// Armed for the first of them.
    timer: Option<(Instant, Sleep)>,
    watched: HashMap<u64, Watched>,
}

struct Watched {
    look_at: Instant,
    activity: Rc<Activity>,
}

/// The connections that are looked at in one go before other tasks have their turn.
const LOOKS_PER_POLL: usize = 256;

impl IdleWatch {
    pub(crate) fn new(limit: Duration) -> IdleWatch {
        IdleWatch { limit, looks: BTreeSet::new(), timer: None, watched: HashMap::new() }
    }

    /// Begins to watch a connection. The server has to be polled after that.
    pub(crate) fn add(&mut self, id: u64) -> Rc<Activity> {
        let activity = Rc::new(Activity { last: Cell::new(now()), is_over: Cell::new(false) });
        // Without a deadline that can be told, it is never idle for long enough.
        if let Some(look_at) = activity.last.get().checked_add(self.limit) {
            self.looks.insert((look_at, id));
            self.watched.insert(id, Watched { look_at, activity: Rc::clone(&activity) });
        }
        activity
    }

    /// Forgets a connection that has ended.
    pub(crate) fn remove(&mut self, id: u64) {
        if let Some(watched) = self.watched.remove(&id) {
            self.looks.remove(&(watched.look_at, id));
        }
    }

    /// Returns the connections that have become idle for too long, and has the task woken for the next.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<u64> {
        let mut idle = Vec::new();
        let mut n_looks = 0;
        while let Some(&(first, _)) = self.looks.first() {
            let (deadline, timer) = self.timer.get_or_insert_with(|| (first, sleep_until(first)));
            if *deadline != first {
                *deadline = first;
                timer.reset(first);
            }
            if Pin::new(timer).poll(cx).is_pending() {
                break;
            }
            self.timer = None;
            let now = now();
            while let Some(&(look_at, id)) = self.looks.first()
                && look_at <= now
            {
                if n_looks == LOOKS_PER_POLL {
                    cx.waker().wake_by_ref();
                    return idle;
                }
                n_looks += 1;
                self.looks.pop_first();
                let Some(watched) = self.watched.get_mut(&id) else { continue };
                match watched.activity.last.get().checked_add(self.limit) {
                    Some(later) if later > now => {
                        watched.look_at = later;
                        self.looks.insert((later, id));
                    }
                    _ => {
                        watched.activity.is_over.set(true);
                        idle.push(id);
                    }
                }
            }
        }
        idle
    }
}

/// When a handler was last active.
pub(crate) struct Activity {
    last: Cell<Instant>,
    is_over: Cell<bool>,
}

impl Activity {
    /// Reports whether the connection was ended because it was idle.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Notes that the handler has something to do now.
    pub(crate) fn note(&self) {
        self.last.set(now());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use polyloop_executor::{Builder, sleep};

    use super::*;

    fn run<R>(future: impl Future<Output = R>) -> R {
        Builder::new().virtual_time(true).build().unwrap().block_on(future).unwrap()
    }

    /// Waits until a connection is idle for too long.
    async fn next_idle(watch: &mut IdleWatch) -> Vec<u64> {
        poll_fn(|cx| {
            let idle = watch.poll(cx);
            if idle.is_empty() { Poll::Pending } else { Poll::Ready(idle) }
        })
        .await
    }

    /// Runs a handler, and notes whenever it has something to do.
    async fn noted<F: Future>(activity: &Activity, handler: F) -> F::Output {
        let mut handler = pin!(handler);
        poll_fn(|cx| {
            activity.note();
            handler.as_mut().poll(cx)
        })
        .await
    }

    const LIMIT: Duration = Duration::from_secs(3);

    #[test]
    fn a_handler_that_waits_for_what_does_not_come_is_idle_after_the_limit() {
        run(async {
            let start = now();
            let mut watch = IdleWatch::new(LIMIT);
            let activity = watch.add(7);
            let handler =
                polyloop_executor::spawn(async move { noted(&activity, pending::<()>()).await });
            assert_eq!(next_idle(&mut watch).await, [7]);
            assert_eq!(now() - start, LIMIT);
            drop(handler);
        });
    }

    #[test]
    fn the_limit_counts_from_the_last_time_that_the_handler_ran() {
        run(async {
            let start = now();
            let mut watch = IdleWatch::new(LIMIT);
            let activity = watch.add(7);
            let handler = polyloop_executor::spawn(async move {
                let handler = async {
                    for _ in 0..10 {
                        sleep(Duration::from_secs(2)).await;
                    }
                    pending::<()>().await;
                };
                noted(&activity, handler).await;
            });
            assert_eq!(next_idle(&mut watch).await, [7]);
            assert_eq!(now() - start, Duration::from_secs(23));
            drop(handler);
        });
    }

    #[test]
    fn connections_that_end_are_forgotten_and_the_others_come_in_their_order() {
        run(async {
            let mut watch = IdleWatch::new(LIMIT);
            for id in 0..10 {
                watch.add(id);
                sleep(Duration::from_millis(100)).await;
            }
            for id in [0, 3, 9] {
                watch.remove(id);
            }
            for id in [1, 2, 4, 5, 6, 7, 8] {
                assert_eq!(next_idle(&mut watch).await, [id]);
                watch.remove(id);
            }
            assert!(watch.looks.is_empty() && watch.watched.is_empty());
        });
    }

    #[test]
    fn a_crowd_that_falls_silent_at_once_is_ended_in_steps() {
        run(async {
            let mut watch = IdleWatch::new(LIMIT);
            (0..1_000).for_each(|id| drop(watch.add(id)));
            let mut n_idle = 0;
            while n_idle < 1_000 {
                let idle = next_idle(&mut watch).await;
                assert!(idle.len() <= LOOKS_PER_POLL);
                n_idle += idle.len();
            }
        });
    }

    #[test]
    fn a_limit_without_an_end_is_none() {
        run(async {
            let mut watch = IdleWatch::new(Duration::MAX);
            drop(watch.add(7));
            assert!(poll_fn(|cx| Poll::Ready(watch.poll(cx))).await.is_empty());
        });
    }
}
