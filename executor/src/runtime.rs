//! A loop as its owner holds it: [`run`], [`Runtime`], [`Builder`].

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use polyloop_reactor::{Backend, Selector, SignalFd, default_selector};

use crate::blocking::{BlockingPool, DEFAULT_GRACE, DEFAULT_THREADS};
use crate::clock::Clock;
use crate::debug::{self, DEFAULT_SLOW_POLL, Debug, Report, Reporter};
use crate::dump_signal::dump_on;
use crate::event_loop::{EventLoop, Parts};
use crate::shuffle::Shuffle;
use crate::spin::Spin;
use crate::task::Dump;
use crate::waker::{current, within};
use crate::{Handle, JoinHandle};

/// Makes a loop, runs `future` on it to its end, and returns what it returned.
///
/// The backend is the one that `POLYLOOP_BACKEND` names, or else the best that works. When
/// `future` is done, tasks that are left are cancelled and blocking work is waited for up to a
/// second; for other wishes there is [`Builder`].
///
/// # Errors
/// If a loop runs on this thread already; if the backend is unknown or does not work; what the
/// selector reports.
///
/// # Panics
/// If `future` does. A panic of another task ends that task only.
///
/// # References
/// Python's `asyncio.run`.
///
/// # Examples
/// ```
/// let answer = polyloop_executor::run(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    check_not_nested("run")?;
    Runtime::new()?.block_on(future)
}

/// Starts a task on the loop that runs on this thread.
///
/// It begins in the loop's next turn. The future need not be `Send`: it never leaves the thread.
///
/// # Panics
/// Outside a loop, where [`Runtime::spawn`] and [`Handle::spawn`](crate::Handle::spawn) serve.
/// If 16,777,215 tasks are alive.
///
/// # References
/// Python's `asyncio.create_task`.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let task = polyloop_executor::spawn(async { "done" });
/// assert_eq!(task.await.unwrap(), "done");
/// # }).unwrap();
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_at(Location::caller(), future)
}

/// Starts a task in the name of the code at `spawned_at`.
#[inline]
pub(crate) fn spawn_at<F>(
    spawned_at: &'static Location<'static>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let id = current(|event_loop| event_loop.spawn(future, spawned_at));
    JoinHandle::of_task(id.expect("`spawn` was called outside a loop"))
}

/// Owns a loop, which runs while one of its methods does.
///
/// Dropping it cancels the tasks that are left and waits a bounded time for blocking work.
///
/// # Examples
/// ```
/// use polyloop_executor::Runtime;
///
/// let runtime = Runtime::new()?;
/// let task = runtime.spawn(async { 6 * 7 });
/// assert_eq!(runtime.block_on(task)?.unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    /// Counted only to be pinned to its thread: the tasks in it need not be `Send`.
    event_loop: Rc<EventLoop>,
    /// The selector's descriptor, a second time, for hosts that ask for it.
    pollable_fd: OnceCell<OwnedFd>,
}

impl Runtime {
    /// Makes a loop with the default settings.
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// Returns the settings to change before making a loop.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Runs the loop until `future` is done, and returns what it returned.
    ///
    /// Other tasks run meanwhile. Those that are left when `future` is done stay where they are
    /// and go on in the next call.
    ///
    /// # Errors
    /// If a loop runs on this thread already: a nested one would keep the outer from running. In
    /// a forked child of the process that made the runtime, whose descriptors it shares. What the
    /// selector reports. In debug mode, `Deadlock` if nothing can ever wake a task: see
    /// [`Builder::debug`].
    ///
    /// # Panics
    /// If `future` does.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop_executor::Runtime::new()?;
    /// let first = runtime.block_on(async { 1 })?;
    /// let second = runtime.block_on(async { first + 1 })?;
    /// assert_eq!(second, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        struct EndMain<'a>(&'a EventLoop);

        impl Drop for EndMain<'_> {
            fn drop(&mut self) {
                self.0.end_main();
            }
        }

        check_not_nested("block_on")?;
        self.event_loop.fork.check()?;
        self.event_loop.announce_main(Location::caller());
        self.event_loop.resume();
        within(&self.event_loop, || {
            // Pinned in here, so that its destructors reach the loop as well.
            let mut future = pin!(future);
            let _end = EndMain(&self.event_loop);
            let id = self.event_loop.begin_main();
            if let Poll::Ready(output) =
                self.event_loop.poll_main(id, |cx| future.as_mut().poll(cx))
            {
                return Ok(output);
            }
            self.event_loop.note_main(id);
            let mut output = None;
            self.event_loop.run_until(&mut |cx| match future.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(value) => {
                    output = Some(value);
                    true
                }
            })?;
            Ok(output.expect("the loop runs until the future is done"))
        })
    }

    /// Starts a task, which runs while [`block_on`](Runtime::block_on) does.
    ///
    /// # Panics
    /// If 16,777,215 tasks are alive.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop_executor::Runtime::new()?;
    /// let task = runtime.spawn(async { 7 });
    /// assert_eq!(runtime.block_on(task)?.unwrap(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        JoinHandle::of_task(self.event_loop.spawn(future, Location::caller()))
    }

    /// Runs one turn of the loop, for a host that has a loop of its own.
    ///
    /// What is ready is polled, up to a bounded number of polls. If nothing is, the turn first
    /// waits for up to `timeout`: `None` waits until something happens, zero only looks.
    ///
    /// A host calls it with zero whenever [`pollable_fd`](Runtime::pollable_fd) is readable or
    /// [`next_deadline`](Runtime::next_deadline) has come. Between two turns, tasks may be spawned
    /// with [`spawn`](Runtime::spawn), and a wake from another thread makes the descriptor
    /// readable.
    ///
    /// # Errors
    /// As for [`block_on`](Runtime::block_on).
    ///
    /// # References
    /// GLib's `g_main_context_iteration`, libuv's `uv_run` with `UV_RUN_NOWAIT`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop_executor::{Runtime, sleep};
    ///
    /// let runtime = Runtime::new()?;
    /// let task = runtime.spawn(sleep(Duration::from_millis(1)));
    /// while !runtime.enter(|| task.is_finished()) {
    ///     runtime.turn(None)?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn turn(&self, timeout: Option<Duration>) -> io::Result<()> {
        check_not_nested("turn")?;
        self.event_loop.fork.check()?;
        within(&self.event_loop, || self.event_loop.turn(timeout))
    }

    /// Calls `f` with the loop as the thread's current one, so that `f` may spawn, ask handles and
    /// use sockets between two turns. No task runs meanwhile.
    ///
    /// # References
    /// tokio's `Runtime::enter`.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop_executor::Runtime::new()?;
    /// let task = runtime.enter(|| polyloop_executor::spawn(async { 7 }));
    /// assert_eq!(runtime.block_on(task)?.unwrap(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        within(&self.event_loop, f)
    }

    /// Returns when the next [`turn`](Runtime::turn) is due at the latest: at once if something is
    /// ready, else at the earliest timer's deadline. None if it is due when
    /// [`pollable_fd`](Runtime::pollable_fd) is readable, and not before.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use polyloop_executor::{Runtime, sleep};
    ///
    /// let runtime = Runtime::new()?;
    /// assert!(runtime.next_deadline().is_none());
    /// runtime.spawn(sleep(Duration::from_secs(3_600)));
    /// // The task is ready: it has not been polled.
    /// assert!(runtime.next_deadline().unwrap() <= Instant::now());
    /// runtime.turn(Some(Duration::ZERO))?;
    /// assert!(runtime.next_deadline().unwrap() > Instant::now());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        self.event_loop.next_deadline()
    }

    /// Lends a descriptor that is readable when a [`turn`](Runtime::turn) would find something,
    /// for a host to watch in its own loop.
    ///
    /// It is level-triggered: readable until a turn has taken what was there. Its only use is to
    /// be watched.
    ///
    /// # Errors
    /// `Unsupported` if the backend has no such descriptor; if no descriptor is left.
    ///
    /// # Platform
    /// epoll and a system's own kqueue have one; select, poll and the library libkqueue do not:
    /// there a host waits in `turn` itself.
    pub fn pollable_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(fd) = self.pollable_fd.get() {
            return Ok(fd.as_fd());
        }
        let reactor = self.event_loop.reactor.borrow();
        let fd = reactor.pollable_fd().ok_or_else(|| {
            let message = format!("the backend {} has no descriptor to watch", self.backend());
            io::Error::new(io::ErrorKind::Unsupported, message)
        })?;
        // A second descriptor for the same selector, since the first is inside a cell.
        let fd = fd.try_clone_to_owned()?;
        drop(reactor);
        Ok(self.pollable_fd.get_or_init(|| fd).as_fd())
    }

    /// Draws the tree of tasks, with what each waits for.
    ///
    /// Inside the loop there is [`task::dump`](crate::task::dump).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop_executor::{Runtime, sleep};
    ///
    /// let runtime = Runtime::new()?;
    /// runtime.spawn(sleep(Duration::from_secs(3_600))).named("nap");
    /// runtime.turn(Some(Duration::ZERO))?;
    /// let dump = runtime.dump().to_string();
    /// assert!(dump.contains("\"nap\"") && dump.contains("timer in 3599s"), "{dump}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump(&self) -> Dump {
        Dump::new(self.event_loop.survey())
    }

    /// Returns a handle that reaches the loop from other threads.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop_executor::Runtime::new()?;
    /// let handle = runtime.handle();
    /// std::thread::spawn(move || handle.call_soon(|| println!("on the loop's thread")));
    /// runtime.block_on(polyloop_executor::yield_now())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handle(&self) -> Handle {
        self.event_loop.handle()
    }

    /// Returns the backend of the loop's selector.
    pub fn backend(&self) -> Backend {
        self.event_loop.reactor.borrow().backend()
    }
}

/// Lends what [`pollable_fd`](Runtime::pollable_fd) does, for whoever asks for `AsFd`.
///
/// # Panics
/// Where `pollable_fd` is an error: with the backends select and poll.
impl AsFd for Runtime {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pollable_fd().expect("the runtime has a descriptor to watch")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        within(&self.event_loop, || self.event_loop.shut_down());
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.event_loop).finish()
    }
}

/// Settings of a loop that is to be made.
///
/// # Examples
/// ```
/// use polyloop_executor::Builder;
/// use polyloop_reactor::Backend;
///
/// let runtime = Builder::new().backend(Backend::Poll).build()?;
/// assert_eq!(runtime.backend(), Backend::Poll);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "nothing is made before `build` is called"]
pub struct Builder {
    backend: Option<Backend>,
    selector: Option<Box<dyn Selector>>,
    blocking_threads: usize,
    shutdown_grace: Duration,
    blocking_pool: Option<BlockingPool>,
    virtual_time: bool,
    spin: Duration,
    seed: Option<u64>,
    debug: Option<bool>,
    slow_poll: Duration,
    reporter: Reporter,
    dump_signal: Option<i32>,
}

impl Builder {
    /// Begins with the default settings.
    pub fn new() -> Builder {
        Builder {
            backend: None,
            selector: None,
            blocking_threads: DEFAULT_THREADS,
            shutdown_grace: DEFAULT_GRACE,
            blocking_pool: None,
            virtual_time: false,
            spin: Duration::ZERO,
            seed: None,
            debug: None,
            slow_poll: DEFAULT_SLOW_POLL,
            reporter: Box::new(debug::print),
            dump_signal: None,
        }
    }

    /// Chooses the backend, whatever `POLYLOOP_BACKEND` says.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = Some(backend);
        self
    }

    /// Brings a selector of one's own, whatever else is chosen.
    pub fn selector(mut self, selector: Box<dyn Selector>) -> Builder {
        self.selector = Some(selector);
        self
    }

    /// Bounds the threads for [`spawn_blocking`](crate::spawn_blocking): 64 by default, 1 at
    /// least.
    pub fn blocking_threads(mut self, max_threads: usize) -> Builder {
        self.blocking_threads = max_threads;
        self
    }

    /// Bounds how long the end of the loop waits for blocking work: one second by default.
    ///
    /// Work that takes longer is named on standard error and goes on on its thread; its result is
    /// dropped.
    pub fn shutdown_grace(mut self, grace: Duration) -> Builder {
        self.shutdown_grace = grace;
        self
    }

    /// Gives the loop a pool for [`spawn_blocking`](crate::spawn_blocking) that it shares with
    /// others, in place of one of its own.
    ///
    /// The pool's settings hold then. The end of the loop waits for blocking work only if it has
    /// the pool's last handle.
    pub fn blocking_pool(mut self, pool: BlockingPool) -> Builder {
        self.blocking_pool = Some(pool);
        self
    }

    /// Replaces the loop's clock by one that jumps to the next deadline when nothing can run.
    ///
    /// A test of an hour's timers then takes a millisecond and is exact. Only timers see that
    /// clock, and [`now`](crate::now); work on other threads takes the time it takes.
    pub fn virtual_time(mut self, virtual_time: bool) -> Builder {
        self.virtual_time = virtual_time;
        self
    }

    /// Lets the loop look for new work for up to `limit` before it sleeps. Off by default.
    ///
    /// Waking a processor that has halted takes tens of microseconds. With a limit of about as
    /// much, a loop that is asked again as soon as it has answered, by one client or by another
    /// thread, is spared that, at the price of a busy processor. It looks only while that has
    /// lately paid: when events come further apart, it soon sleeps as if this were off.
    pub fn spin(mut self, limit: Duration) -> Builder {
        self.spin = limit;
        self
    }

    /// Runs tasks that are ready at the same time in an order that `seed` chooses, instead of
    /// first in, first out.
    ///
    /// The same seed gives the same order, as far as the world (descriptors, threads, the time)
    /// does the same; with [`virtual_time`](Builder::virtual_time) a program is reproduced
    /// exactly. Tests meet rare interleavings that way. Without this, the environment variable
    /// `POLYLOOP_SEED` may name a seed. Which tasks run before the next look does not change, only
    /// their order.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc};
    /// use polyloop_executor::{Builder, gather};
    ///
    /// let order = |seed| -> std::io::Result<Vec<u32>> {
    ///     let runtime = Builder::new().seed(seed).build()?;
    ///     let seen = Rc::new(RefCell::new(Vec::new()));
    ///     runtime.block_on(gather((0..20).map(|i| {
    ///         let seen = seen.clone();
    ///         async move { seen.borrow_mut().push(i) }
    ///     })))?;
    ///     Ok(seen.take())
    /// };
    /// assert_eq!(order(1)?, order(1)?);
    /// assert_ne!(order(1)?, order(2)?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Switches debug mode on or off, whatever the environment variable `POLYLOOP_DEBUG` says
    /// (`1` is on). Off by default.
    ///
    /// In debug mode:
    ///
    /// - a poll that takes longer than [`slow_poll`](Builder::slow_poll) is reported, with the
    ///   task's name and where it was spawned;
    /// - a task that panicked and whose handle was dropped is reported;
    /// - [`TaskInfo::busy`](crate::task::TaskInfo::busy) is known;
    /// - a loop that would wait for ever returns an error, `Deadlock`, that lists every task and
    ///   what it waits for: nothing is ready, no timer is armed, no descriptor is waited for, no
    ///   blocking work is under way, and no thread but the loop's own could wake a task. The
    ///   last is taken for granted while any task waits for something that another thread might
    ///   have (a channel between threads, a waker that a future of another crate has cloned), or
    ///   a [`Handle`] was made, unless the system says that there is no other thread.
    ///
    /// # Platform
    /// Only Linux says how many threads there are. Where pointers have 32 bits, nobody knows who
    /// has a waker.
    ///
    /// # References
    /// Python's asyncio debug mode, Go's "all goroutines are asleep".
    ///
    /// # Examples
    /// ```
    /// use polyloop_executor::{Builder, channel};
    ///
    /// let runtime = Builder::new().debug(true).build()?;
    /// let (_sender, mut receiver) = channel::local::unbounded::<()>();
    /// // The sender is here, and nobody will ever send.
    /// let error = runtime.block_on(receiver.recv()).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
    /// assert!(error.to_string().contains("main at"));
    /// assert!(error.to_string().contains("waits for a message"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn debug(mut self, debug: bool) -> Builder {
        self.debug = Some(debug);
        self
    }

    /// Sets how long a poll may take before debug mode reports it: 100 ms by default.
    pub fn slow_poll(mut self, limit: Duration) -> Builder {
        self.slow_poll = limit;
        self
    }

    /// Sets who is given the reports of debug mode, instead of standard error.
    ///
    /// `reporter` is called on the loop's thread. A panic in it is told of by the panic hook and
    /// ends nothing.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::RefCell, rc::Rc, time::Duration};
    /// use polyloop_executor::Builder;
    ///
    /// let reports = Rc::new(RefCell::new(Vec::new()));
    /// let seen = reports.clone();
    /// let report = move |report: &_| seen.borrow_mut().push(format!("{report}"));
    /// let runtime =
    ///     Builder::new().debug(true).slow_poll(Duration::ZERO).reporter(report).build()?;
    /// runtime.block_on(async {})?;
    /// assert!(reports.borrow()[0].starts_with("a poll took"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn reporter(mut self, reporter: impl Fn(&Report) + 'static) -> Builder {
        self.reporter = Box::new(reporter);
        self
    }

    /// Writes the tree of tasks to standard error whenever the process gets the signal `signum`
    /// while the loop runs: [`SignalFd::QUIT`] is Ctrl-\, as for Java's and Go's dumps.
    ///
    /// A task of the loop's own does it, named `dump`, which counts as one in
    /// [`Metrics`](crate::Metrics). A loop that is stuck in a poll draws its tree after that poll.
    /// The signal's default action does not happen while the runtime is there.
    ///
    /// # Examples
    /// ```
    /// use polyloop_executor::Builder;
    /// use polyloop_reactor::SignalFd;
    ///
    /// let runtime = Builder::new().dump_on(SignalFd::QUIT).build()?;
    /// assert!(runtime.dump().to_string().contains("dump"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump_on(mut self, signum: i32) -> Builder {
        self.dump_signal = Some(signum);
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    /// If the backend is unknown, not of this system, or does not work; if no descriptor is
    /// left; if 1,024 loops are alive; if `POLYLOOP_DEBUG` or `POLYLOOP_SEED` is nonsense; if
    /// nobody can listen to the signal of [`dump_on`](Builder::dump_on).
    pub fn build(self) -> io::Result<Runtime> {
        let selector = match (self.selector, self.backend) {
            (Some(selector), _) => selector,
            (None, Some(backend)) => backend.open()?,
            (None, None) => default_selector()?,
        };
        let clock = if self.virtual_time { Clock::manual() } else { Clock::system() };
        let pool = self.blocking_pool.unwrap_or_else(|| {
            let settings = BlockingPool::builder().max_threads(self.blocking_threads);
            settings.shutdown_grace(self.shutdown_grace).build()
        });
        let spin = Spin::new(self.spin);
        let seed = self.seed.map_or_else(debug::seed_from_env, |seed| Ok(Some(seed)))?;
        let is_debugged = self.debug.map_or_else(debug::debug_from_env, Ok)?;
        let debug =
            is_debugged.then_some(Debug { slow_poll: self.slow_poll, reporter: self.reporter });
        let shuffle = seed.map(Shuffle::new);
        let event_loop = EventLoop::new(Parts { selector, clock, pool, spin, shuffle, debug })?;
        let runtime = Runtime { event_loop: Rc::new(event_loop), pollable_fd: OnceCell::new() };
        if let Some(signum) = self.dump_signal {
            let future = dump_on(SignalFd::listen(signum)?);
            let task = runtime.event_loop.spawn(future, Location::caller());
            runtime.event_loop.set_name(task, "dump".into());
            runtime.event_loop.set_aside(task);
            runtime.event_loop.detach(task);
        }
        Ok(runtime)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("backend", &self.backend)
            .field("selector", &self.selector)
            .field("blocking_threads", &self.blocking_threads)
            .field("shutdown_grace", &self.shutdown_grace)
            .field("virtual_time", &self.virtual_time)
            .field("spin", &self.spin)
            .field("seed", &self.seed)
            .field("debug", &self.debug)
            .field("slow_poll", &self.slow_poll)
            .field("dump_signal", &self.dump_signal)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

#[inline]
fn check_not_nested(name: &str) -> io::Result<()> {
    match current(|_| ()) {
        None => Ok(()),
        Some(()) => Err(nested(name)),
    }
}

#[cold]
fn nested(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("`{name}` was called inside a running loop: await or spawn the future instead"),
    )
}
