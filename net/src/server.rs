//! Accepting as a component.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use polyloop_executor::{
    CancellationToken, JoinError, JoinHandle, Sleep, now, poll_caught, sleep, spawn, timeout,
    with_reactor,
};
use polyloop_reactor::socket::{AcceptFailure, accept_failure, max_descriptors};

use crate::TcpListener;
use crate::accept::{Listener, waiter};
use crate::addr::ToAddrs;
use crate::async_fd::Waiter;
use crate::session::{Activity, IdleWatch, Session};

/// The first wait when something has run out. Each one that follows is twice as long, up to
/// [`LONGEST_REST`]; a connection that ends cuts it short.
///
/// Short enough that nobody notices a spike, and long enough that a full table of descriptors
/// costs a few hundred tries a second at most.
const FIRST_REST: Duration = Duration::from_millis(5);

/// The longest wait when something has run out: how late it may be noticed that another process
/// has given back what was missing.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The connections that are accepted in one go before other tasks have their turn.
///
/// A task that is polled may do more; a burst of thousands should not keep timers waiting.
const ACCEPTS_PER_POLL: u32 = 32;

/// The failures of single connections in a row after which the server rests as well: then it is
/// not the connections.
const FAILURES_IN_A_ROW: u32 = 128;

/// How long open connections may go on after the server was stopped, unless told otherwise.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// How long clients may wait for descriptors that have run out, unless told otherwise.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

/// Accepts connections and starts a task for each.
///
/// It lives through what listeners meet:
/// - **A limit** to open connections: those that come above it wait in the system's queue.
/// - **Silent clients**, if it has an [idle limit](Server::idle_limit). What they cost without one, and
///   what slow ones cost, is on the page `docs/servers.md`.
/// - **Running out of descriptors**: it rests between tries instead of spinning, and tries when a
///   connection has ended. If that takes too long, those who wait are closed rather than kept
///   waiting, for which it keeps a descriptor in reserve.
/// - **Failures of one connection** before it was accepted: passed over. **Failures of one
///   handler**, and its panics: told, and nobody else is affected. **A broken listener**: the
///   end of the server.
/// - **Being stopped**: listening ends at once, the handlers are [told](Session::stopped), open connections
///   may continue for a while, and those that are left then are cut off.
///
/// # Examples
/// An echo server:
/// ```
/// use polyloop::io::copy;
/// use polyloop::net::{Server, TcpStream};
///
/// # polyloop::run(async {
/// let server = Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addrs()[0];
/// let stop = server.stopper();
/// let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _peer| {
///     copy(&stream, &stream).await?;
///     Ok(())
/// }));
///
/// let client = TcpStream::connect(addr).await?;
/// client.write_all(b"hello").await?;
/// client.read_exact(&mut [0; 5]).await?;
/// drop(client);
///
/// stop.stop();
/// let report = serving.await??;
/// assert_eq!((report.n_served, report.n_cut_off), (1, 0));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
///
/// Over a Unix socket, with [`Server::on`]:
/// ```
/// use polyloop::io::copy;
/// use polyloop::net::{Server, UnixListener, UnixStream};
///
/// # polyloop::run(async {
/// # let path = std::env::temp_dir().join(format!("polyloop-serve-{}", std::process::id()));
/// let server = Server::on(UnixListener::bind(&path)?);
/// let stop = server.stopper();
/// let serving = polyloop::spawn(server.serve(async |stream: UnixStream, _peer| {
///     copy(&stream, &stream).await?;
///     Ok(())
/// }));
/// let client = UnixStream::connect(&path).await?;
/// client.write_all(b"hello").await?;
/// client.read_exact(&mut [0; 5]).await?;
/// # drop(client);
/// # stop.stop();
/// # assert_eq!(serving.await??.n_served, 1);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[must_use = "a server accepts nothing before `serve` is awaited"]
pub struct Server<L: Listener = TcpListener> {
    listeners: Vec<L>,
    /// None for [`default_max_connections`].
    max_connections: Option<usize>,
    idle_limit: Option<Duration>,
    grace: Duration,
    patience: Duration,
    shared: Rc<Shared>,
    on_trouble: Tell<L::Addr>,
}

/// Is called with what goes wrong.
type Tell<A> = Rc<dyn Fn(Trouble<'_, A>)>;

/// Reports what goes wrong. A panic of the callback ends nothing; the panic hook has reported it.
fn report<A>(on_trouble: &Tell<A>, trouble: Trouble<'_, A>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| on_trouble(trouble)));
    drop_panic(outcome.err());
}

/// Drops the payload of a panic, whose destructor may panic in turn.
fn drop_panic(payload: Option<Box<dyn Any + Send>>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Not followed any further.
        mem::forget(again);
    }
}

/// Says what went wrong while the server goes on. See [`Server::on_trouble`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Trouble<'a, A = SocketAddr> {
    /// A connection has failed before it was accepted.
    Accept(&'a io::Error),
    /// Descriptors or memory have run out. It rests now. Told once for each series of tries.
    Exhausted(&'a io::Error),
    /// A handler has returned an error.
    Handler(A, &'a io::Error),
    /// A handler has panicked.
    Panic(A),
    /// A connection was ended by [`Server::idle_limit`].
    Idle(A),
}

impl<A: fmt::Debug> fmt::Display for Trouble<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Accept(error) => write!(f, "a connection was not accepted: {error}"),
            Trouble::Exhausted(error) => write!(f, "no connection can be accepted now: {error}"),
            Trouble::Handler(peer, error) => write!(f, "the connection of {peer:?}: {error}"),
            Trouble::Panic(peer) => write!(f, "the handler of {peer:?} has panicked"),
            Trouble::Idle(peer) => write!(f, "the connection of {peer:?} was idle for too long"),
        }
    }
}

/// Says what a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// Connections whose handler has returned without an error.
    pub n_served: u64,
    /// Connections whose handler has returned an error, or panicked.
    pub n_failed: u64,
    /// Connections that were ended because they were idle for too long.
    pub n_idle: u64,
    /// Connections that were closed unserved because descriptors had run out.
    pub n_refused: u64,
    /// Connections that were still open when the time to end was over.
    pub n_cut_off: u64,
}

/// Stops a server. Made by [`Server::stopper`].
#[derive(Clone)]
pub struct Stopper {
    shared: Rc<Shared>,
}

impl Stopper {
    /// Ends listening, tells the handlers ([`Session::stopped`]), and lets open connections continue for
    /// as long as the server [grants](Server::grace).
    pub fn stop(&self) {
        self.shared.stopped.cancel();
        self.shared.wake();
    }

    /// Returns the number of connections that are open now.
    pub fn n_open(&self) -> usize {
        self.shared.n_open.get()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper")
            .field("is_stopped", &self.shared.stopped.is_cancelled())
            .field("n_open", &self.n_open())
            .finish()
    }
}

/// What the server, its handlers and whoever stops it have in common.
#[derive(Default)]
struct Shared {
    stopped: CancellationToken,
    n_open: Cell<usize>,
    report: Cell<ServerReport>,
    /// The server, waiting for a connection to end or to be stopped.
    waker: Cell<Option<Waker>>,
    /// A connection has ended since this was last looked at.
    has_room: Cell<bool>,
    tasks: RefCell<HashMap<u64, JoinHandle<()>>>,
    /// None without a limit.
    idle: RefCell<Option<IdleWatch>>,
}

impl Shared {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn count(&self, change: impl FnOnce(&mut ServerReport)) {
        let mut report = self.report.get();
        change(&mut report);
        self.report.set(report);
    }
}

impl Server {
    /// Listens as [`TcpListener::bind`] does.
    ///
    /// # Errors
    /// As for `TcpListener::bind`.
    pub fn bind(addr: impl ToAddrs) -> io::Result<Server> {
        Ok(Server::on(TcpListener::bind(addr)?))
    }
}

impl<L: Listener> Server<L> {
    /// Serves a listener that was made elsewhere: a [`UnixListener`](crate::UnixListener), one
    /// that was inherited, or one set up with [`TcpSocket`](crate::TcpSocket), for instance with
    /// `SO_REUSEPORT` so that several loops serve one address.
    pub fn on(listener: L) -> Server<L> {
        Server {
            listeners: vec![listener],
            max_connections: None,
            idle_limit: None,
            grace: DEFAULT_GRACE,
            patience: DEFAULT_PATIENCE,
            shared: Rc::default(),
            on_trouble: Rc::new(|_| {}),
        }
    }

    /// Serves one more listener. They take turns.
    pub fn and_on(mut self, listener: L) -> Server<L> {
        self.listeners.push(listener);
        self
    }

    /// Bounds the connections that are open at the same time, 1 at least. Further ones wait in the
    /// system's queue until one has ended.
    ///
    /// The default is seven eighths of the descriptors that the process may have when
    /// [`serve`](Server::serve) is called (the soft limit `RLIMIT_NOFILE`), so that the eighth
    /// that is left serves for files, and for the connections that handlers make. On a select loop
    /// it is seven eighths of `FD_SETSIZE` (1,024) if that is less: no descriptor at or above it can be
    /// watched.
    pub fn max_connections(mut self, max_connections: usize) -> Server<L> {
        self.max_connections = Some(max_connections.max(1));
        self
    }

    /// Ends a connection whose handler has had nothing to do for `limit`: nothing was received that it
    /// waits for, nothing could be sent, and no timer of its own was due. There is no limit by default.
    ///
    /// The handler's future is dropped, and the connection with it; it counts in
    /// [`ServerReport::n_idle`]. A handler that may wait longer than that for something else than
    /// its client, such as a query, should do so in a task of its own and await an
    /// [`interval`](polyloop_executor::interval) meanwhile.
    ///
    /// A client that sends a byte now and then is not idle: bound the time for a whole request in the
    /// handler, with [`timeout`].
    pub fn idle_limit(mut self, limit: Duration) -> Server<L> {
        self.idle_limit = Some(limit);
        self
    }

    /// Grants open connections this long to end after the server was stopped: ten seconds by
    /// default.
    pub fn grace(mut self, grace: Duration) -> Server<L> {
        self.grace = grace;
        self
    }

    /// Lets clients wait this long when descriptors or memory have run out, before they are
    /// refused: two seconds by default.
    pub fn patience(mut self, patience: Duration) -> Server<L> {
        self.patience = patience;
        self
    }

    /// Calls `report` with everything that goes wrong and does not end the server. Without it the server
    /// is silent.
    ///
    /// A panic in `report`, such as that of `println!` to a closed pipe, ends nothing.
    pub fn on_trouble(mut self, report: impl Fn(Trouble<'_, L::Addr>) + 'static) -> Server<L> {
        self.on_trouble = Rc::new(report);
        self
    }

    /// Returns the addresses that are listened on.
    pub fn local_addrs(&self) -> Vec<L::Addr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Returns what stops the server, from a task on the same loop.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: Rc::clone(&self.shared) }
    }

    /// Serves until it is [stopped](Stopper::stop), with a task for each connection, which calls
    /// `handler` with the stream and the [`Session`]: the client's address, and the news that the server is
    /// stopped.
    ///
    /// To stop it at a signal, start a task that waits for the signal and then calls `stop`.
    ///
    /// # Errors
    /// What the system says of a listener that is broken. Open connections are then cut off, as
    /// at the end of the grace.
    ///
    /// # Panics
    /// When polled outside a loop.
    ///
    /// # Cancel safety
    /// Open connections are cut off. None is accepted and lost.
    pub async fn serve<H>(self, handler: H) -> io::Result<ServerReport>
    where
        H: AsyncFn(L::Stream, Session<L::Addr>) -> io::Result<()> + 'static,
    {
        let Server { listeners, max_connections, idle_limit, grace, patience, shared, on_trouble } =
            self;
        let max_connections = max_connections.unwrap_or_else(default_max_connections);
        shared.idle.replace(idle_limit.map(IdleWatch::new));
        // Whatever way this ends, no task of a connection outlives it.
        let cutter = CutOff(Rc::clone(&shared));
        let handler = Rc::new(handler);
        let mut next_id = 0;
        let start = |stream: L::Stream, peer: L::Addr| {
            let id = next_id;
            next_id += 1;
            let open = Open::new(&shared, &on_trouble, id, peer.clone());
            let handler = Rc::clone(&handler);
            let session = Session::new(peer, shared.stopped.clone());
            let activity = open.activity.clone();
            let task = spawn(async move {
                // Made where it is polled: the memory of a connection is that of its handler, which
                // any `async fn` that it passes through would hold once more or twice.
                //
                // Panics are caught, so that the report is not made while the stack unwinds: a panic
                // of `on_trouble` would end the process there.
                let result = {
                    let mut handling = pin!(Some(handler(stream, session)));
                    poll_fn(|cx| {
                        if let Some(activity) = &activity {
                            activity.note();
                        }
                        poll_caught(handling.as_mut(), cx)
                    })
                    .await
                };
                let panic = open.end(result);
                if let Some(panic) = panic {
                    resume_unwind(panic);
                }
            });
            shared.tasks.borrow_mut().insert(id, task);
        };
        {
            let mut accepting = Accepting::<L, _> {
                waiters: listeners.iter().map(waiter).collect(),
                next_listener: 0,
                max_connections,
                shared: &shared,
                on_trouble: &on_trouble,
                start,
                reserve: Reserve::new(),
                patience,
                rest: None,
                exhausted_since: None,
                n_failures: 0,
            };
            poll_fn(|cx| accepting.poll(cx)).await?;
        }
        // Nobody is accepted any more; those who wait in the queue are told by the system.
        drop(listeners);
        let drained = poll_fn(|cx| {
            shared.waker.set(Some(cx.waker().clone()));
            if shared.n_open.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(grace, drained).await.is_err() {
            let n_cut_off = shared.n_open.get() as u64;
            shared.count(|report| report.n_cut_off = n_cut_off);
        }
        drop(cutter);
        Ok(shared.report.get())
    }
}

impl<L: Listener + fmt::Debug> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("max_connections", &self.max_connections)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

/// The accept loop.
struct Accepting<'a, L: Listener, S> {
    waiters: Vec<Waiter<'a, L::Io>>,
    /// The listener whose turn it is.
    next_listener: usize,
    max_connections: usize,
    shared: &'a Shared,
    on_trouble: &'a Tell<L::Addr>,
    start: S,
    reserve: Reserve,
    /// Something has run out: wait this long, and then twice as long.
    rest: Option<(Sleep, Duration)>,
    patience: Duration,
    exhausted_since: Option<Instant>,
    n_failures: u32,
}

impl<L: Listener, S: FnMut(L::Stream, L::Addr)> Accepting<'_, L, S> {
    /// Accepts whatever is there. Ready when the server is stopped, or a listener broken.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Left before anything is looked at, so that nothing that happens later is missed.
        drop(self.shared.waker.replace(Some(cx.waker().clone())));
        let polled = self.accept(cx);
        if polled.is_pending() {
            self.end_idle(cx);
        }
        polled
    }

    fn accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let has_room = self.shared.has_room.take();
        for _ in 0..ACCEPTS_PER_POLL {
            if self.shared.stopped.is_cancelled() {
                return Poll::Ready(Ok(()));
            }
            if self.shared.n_open.get() >= self.max_connections {
                // The one that ends wakes.
                return Poll::Pending;
            }
            if let Some((sleep, _)) = &mut self.rest
                && !has_room
                && Pin::new(sleep).poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            let accepted = match self.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(accepted) => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    (self.rest, self.exhausted_since, self.n_failures) = (None, None, 0);
                    self.reserve.refill();
                    let start = &mut self.start;
                    // It panics where no further task can be spawned.
                    if let Err(error) = contained("serving", || {
                        start(stream, peer);
                        Ok(())
                    }) {
                        report(self.on_trouble, Trouble::Accept(&error));
                        return self.begin_rest(cx);
                    }
                }
                Err(error) => match accept_failure(&error) {
                    AcceptFailure::Listener => return Poll::Ready(Err(error)),
                    AcceptFailure::Connection => {
                        report(self.on_trouble, Trouble::Accept(&error));
                        self.n_failures += 1;
                        if self.n_failures >= FAILURES_IN_A_ROW {
                            return self.begin_rest(cx);
                        }
                    }
                    AcceptFailure::Exhausted => {
                        let since = self.exhausted_since.unwrap_or_else(|| {
                            report(self.on_trouble, Trouble::Exhausted(&error));
                            now()
                        });
                        self.exhausted_since = Some(since);
                        if now() - since >= self.patience {
                            self.refuse_those_who_wait();
                        }
                        return self.begin_rest(cx);
                    }
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the connections that have been idle for too long.
    fn end_idle(&self, cx: &mut Context<'_>) {
        let idle = match &mut *self.shared.idle.borrow_mut() {
            None => return,
            Some(idle) => idle.poll(cx),
        };
        for id in idle {
            // Taken out first: the abort drops the handler, which is foreign.
            let task = self.shared.tasks.borrow_mut().remove(&id);
            if let Some(task) = task {
                task.abort();
            }
        }
    }

    /// Takes a connection from whichever listener has one, beginning with the one whose turn it
    /// is.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(L::Stream, L::Addr)>> {
        let n_listeners = self.waiters.len();
        for i in 0..n_listeners {
            let index = (self.next_listener + i) % n_listeners;
            let accept = |io: &L::Io| contained("accepting", || L::accept(io));
            if let Poll::Ready(accepted) = self.waiters[index].poll_io(cx, accept) {
                self.next_listener = (index + 1) % n_listeners;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Gives the reserve away to accept those who wait, and closes them: better to be told at once
    /// than to wait for a server that has no descriptor for them.
    fn refuse_those_who_wait(&mut self) {
        for _ in 0..ACCEPTS_PER_POLL {
            if !self.reserve.give() {
                return;
            }
            // The one that has just failed.
            let n_listeners = self.waiters.len();
            let waiter = &self.waiters[(self.next_listener + n_listeners - 1) % n_listeners];
            let refused = waiter.try_now(|io: &L::Io| contained("accepting", || L::accept(io)));
            let is_refused = refused.is_ok();
            drop(refused);
            self.reserve.refill();
            if !is_refused {
                return;
            }
            self.shared.count(|report| report.n_refused += 1);
        }
    }

    fn begin_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let length = match &self.rest {
            Some((_, last)) => LONGEST_REST.min(*last * 2),
            None => FIRST_REST,
        };
        let mut rest = sleep(length);
        // Polled once, so that it wakes.
        let poll = Pin::new(&mut rest).poll(cx);
        self.rest = Some((rest, length));
        if poll.is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// Returns how many connections a server has at most if its user has not said: as many as the process
/// may have descriptors and the running loop can watch, less an eighth.
fn default_max_connections() -> usize {
    let watchable = with_reactor(|reactor| reactor.descriptor_limit()).ok().flatten();
    let limit = [max_descriptors(), watchable].into_iter().flatten().min();
    limit.map_or(usize::MAX, |limit| (limit - limit / 8).max(1))
}

/// Turns a panic on the way to one connection into an error of that connection.
fn contained<R>(step: &str, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        drop_panic(Some(payload));
        let message = format!("{step} a connection has panicked");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
    })
}

/// A descriptor that is kept for the case that there is none left.
struct Reserve(Option<File>);

impl Reserve {
    fn new() -> Reserve {
        let mut reserve = Reserve(None);
        reserve.refill();
        reserve
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            // If there is none to be had, there is none.
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Makes room for one descriptor; false if there was none in reserve.
    fn give(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Counts a connection for as long as it lives, whichever way it ends.
struct Open<A: Clone> {
    shared: Rc<Shared>,
    on_trouble: Tell<A>,
    id: u64,
    peer: A,
    /// None without an idle limit.
    activity: Option<Rc<Activity>>,
}

impl<A: Clone> Open<A> {
    fn new(shared: &Rc<Shared>, on_trouble: &Tell<A>, id: u64, peer: A) -> Open<A> {
        shared.n_open.set(shared.n_open.get() + 1);
        let activity = shared.idle.borrow_mut().as_mut().map(|idle| idle.add(id));
        let (shared, on_trouble) = (Rc::clone(shared), Rc::clone(on_trouble));
        Open { shared, on_trouble, id, peer, activity }
    }

    /// Notes how the handler ended, and returns the payload if that was a panic.
    fn end(self, result: Result<io::Result<()>, JoinError>) -> Option<Box<dyn Any + Send>> {
        match result {
            Ok(Ok(())) => {
                self.shared.count(|report| report.n_served += 1);
                None
            }
            Ok(Err(error)) => {
                self.shared.count(|report| report.n_failed += 1);
                report(&self.on_trouble, Trouble::Handler(self.peer.clone(), &error));
                None
            }
            Err(error) => {
                self.shared.count(|report| report.n_failed += 1);
                report(&self.on_trouble, Trouble::Panic(self.peer.clone()));
                error.try_into_panic().ok()
            }
        }
    }
}

impl<A: Clone> Drop for Open<A> {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            if let Some(idle) = &mut *self.shared.idle.borrow_mut() {
                idle.remove(self.id);
            }
            if activity.is_over() {
                self.shared.count(|report| report.n_idle += 1);
                report(&self.on_trouble, Trouble::Idle(self.peer.clone()));
            }
        }
        self.shared.n_open.set(self.shared.n_open.get() - 1);
        self.shared.has_room.set(true);
        // Bound to a name, so that the borrow ends before the handle is dropped.
        let task = self.shared.tasks.borrow_mut().remove(&self.id);
        drop(task);
        self.shared.wake();
    }
}

/// Ends the tasks of the connections that are left.
struct CutOff(Rc<Shared>);

impl Drop for CutOff {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *self.0.tasks.borrow_mut());
        for task in tasks.into_values() {
            task.abort();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net;
    use std::sync::Mutex;

    use polyloop_executor::{run, yield_now};

    use super::*;
    use crate::AsyncFd;
    use crate::accept::sealed;

    /// What `accept` comes to.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Errno(i32),
        Panic,
        /// A connection of this client.
        Client(u32),
    }

    /// A listener that follows a script, and has nothing more to accept after it.
    struct Scripted {
        fd: AsyncFd<Script>,
    }

    #[derive(Debug)]
    struct Script {
        /// A descriptor that is always readable.
        fd: net::UnixStream,
        _other: net::UnixStream,
        steps: Mutex<VecDeque<Step>>,
    }

    impl AsFd for Script {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }

    impl sealed::Listener for Scripted {
        type Io = Script;
        type Stream = ();
        type Addr = u32;

        fn fd(&self) -> &AsyncFd<Script> {
            &self.fd
        }

        fn local_addr(&self) -> io::Result<u32> {
            Ok(0)
        }

        fn accept(script: &Script) -> io::Result<((), u32)> {
            let step = script.steps.lock().unwrap().pop_front();
            match step {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(Step::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
                Some(Step::Panic) => panic!("while accepting"),
                Some(Step::Client(number)) => Ok(((), number)),
            }
        }
    }

    fn scripted(steps: impl IntoIterator<Item = Step>) -> Server<Scripted> {
        let (fd, mut other) = net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut other, b"x").unwrap();
        let steps = Mutex::new(steps.into_iter().collect());
        let fd = AsyncFd::new(Script { fd, _other: other, steps }).unwrap();
        Server::on(Scripted { fd })
    }

    /// Serves until `n_clients` have been served, and returns what was reported on the way.
    fn serve(server: Server<Scripted>, n_clients: u64) -> (ServerReport, Vec<String>) {
        run(async {
            let reports = Rc::new(RefCell::new(Vec::new()));
            let heard = Rc::clone(&reports);
            let server = server.on_trouble(move |trouble| {
                heard.borrow_mut().push(trouble.to_string());
                panic!("the callback panics as well");
            });
            let (stop, shared) = (server.stopper(), Rc::clone(&server.shared));
            let serving = spawn(server.serve(async |(), session| match session.peer() {
                13 => panic!("the handler panics"),
                14 => Err(io::Error::other("the handler fails")),
                _ => Ok(()),
            }));
            let count = || {
                let report = shared.report.get();
                report.n_served + report.n_failed
            };
            while count() < n_clients {
                assert!(!serving.is_finished(), "the server has ended: {:?}", serving.await);
                yield_now().await;
            }
            stop.stop();
            let report = serving.await.unwrap().unwrap();
            let reports = reports.borrow().clone();
            (report, reports)
        })
        .unwrap()
    }

    #[test]
    fn an_error_of_one_connection_costs_no_other() {
        let errors =
            [libc::EOPNOTSUPP, libc::EACCES, libc::EPERM, libc::EPROTO, libc::ECONNABORTED];
        for errno in errors {
            let steps = [Step::Client(1), Step::Errno(errno), Step::Client(2), Step::Client(3)];
            let (report, reports) = serve(scripted(steps), 3);
            assert_eq!(report.n_served, 3, "errno {errno}");
            assert_eq!(reports.len(), 1, "{reports:?}");
        }
    }

    #[test]
    fn an_error_of_the_listener_ends_the_server() {
        let server = scripted([Step::Client(1), Step::Errno(libc::EBADF)]);
        let ended = run(server.serve(async |(), _| Ok(()))).unwrap();
        assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_panic_while_accepting_costs_that_connection() {
        let steps = [Step::Panic, Step::Client(1), Step::Panic, Step::Panic, Step::Client(2)];
        let (report, reports) = serve(scripted(steps), 2);
        assert_eq!(report.n_served, 2);
        assert_eq!(reports.len(), 3);
        assert!(reports[0].contains("accepting a connection has panicked"), "{reports:?}");
    }

    #[test]
    fn a_panicking_report_of_a_panicking_handler_ends_nothing() {
        let steps = [13, 14, 13, 1].map(Step::Client);
        let (report, reports) = serve(scripted(steps), 4);
        assert_eq!((report.n_served, report.n_failed), (1, 3));
        assert_eq!(
            reports,
            [
                "the handler of 13 has panicked",
                "the connection of 14: the handler fails",
                "the handler of 13 has panicked",
            ]
        );
    }
}
