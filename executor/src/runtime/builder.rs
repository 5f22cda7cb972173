//! The settings of a loop, and how it is put together.

use std::fmt;
use std::io;
use std::time::Duration;

use polyloop_reactor::{Backend, Selector, SignalFd, default_selector};

use crate::Runtime;
use crate::blocking::{BlockingPool, DEFAULT_GRACE, DEFAULT_THREADS};
use crate::event_loop::shuffle::Shuffle;
use crate::event_loop::spin::Spin;
use crate::event_loop::{EventLoop, Parts};
use crate::inspect::debug::{self, DEFAULT_SLOW_POLL, Debug, Report, Reporter};
use crate::running::report_lost;
use crate::time::clock::Clock;

/// Settings of a loop that is to be made.
///
/// # Examples
/// ```
/// use polyloop::Builder;
/// use polyloop::Backend;
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
    /// clock, and [`now`](crate::now).
    ///
    /// Time stands still while blocking work runs that was spawned on the loop's thread, with
    /// [`spawn_blocking`](crate::spawn_blocking) or on any [`BlockingPool`](crate::BlockingPool), and
    /// while a host name is looked up: the loop waits for the result in real time. That is so whether
    /// the handle of the work is kept or not, so a job that never ends stops the clock for good. Other
    /// threads, other loops and descriptors are not waited for, because a loop cannot know whether
    /// anything will come from them; a program that knows it says so with
    /// [`hold_time`](crate::hold_time).
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
    /// use polyloop::{Builder, gather};
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
    /// - a panic of a task or of blocking work is reported if its outcome is dropped before it is given
    ///   to anyone: with a handle, a [`JoinSet`](crate::JoinSet), or a future that waited for many;
    /// - [`TaskInfo::busy`](crate::task::TaskInfo::busy) is known;
    /// - a loop that would wait for ever returns an error, `Deadlock`, that lists every task and
    ///   what it waits for: nothing is ready, no timer is armed, no descriptor is waited for, no
    ///   blocking work is under way, and no thread but the loop's own could wake a task. The
    ///   last is taken for granted while any task waits for something that another thread might
    ///   have (a channel between threads, a waker that a future of another crate has cloned), or
    ///   a [`Handle`](crate::Handle) was made, unless the system says that there is no other thread.
    ///
    /// # Platform
    /// Only Linux says how many threads there are.
    ///
    /// # References
    /// Python's asyncio debug mode, Go's "all goroutines are asleep".
    ///
    /// # Examples
    /// ```
    /// use polyloop::{Builder, channel};
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
    /// use polyloop::Builder;
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
    /// use polyloop::Builder;
    /// use polyloop::selectors::SignalFd;
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
        let workers = pool.into_workers();
        let spin = Spin::new(self.spin);
        let seed = self.seed.map_or_else(debug::seed_from_env, |seed| Ok(Some(seed)))?;
        let is_debugged = self.debug.map_or_else(debug::debug_from_env, Ok)?;
        let debug = is_debugged.then_some(Debug {
            slow_poll: self.slow_poll,
            reporter: self.reporter,
            report_lost,
        });
        let shuffle = seed.map(Shuffle::new);
        let event_loop = EventLoop::new(Parts { selector, clock, workers, spin, shuffle, debug })?;
        let runtime = Runtime::of(event_loop);
        if let Some(signum) = self.dump_signal {
            runtime.spawn_dump(SignalFd::listen(signum)?);
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
