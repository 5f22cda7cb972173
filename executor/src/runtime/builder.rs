//! [`Builder`]: the settings of a runtime.

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

/// Builds a [`Runtime`] with custom settings.
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
#[must_use = "call `build` to create the runtime"]
pub struct Builder {
    backend: Option<Backend>,
    selector: Option<Box<dyn Selector>>,
    max_blocking_threads: usize,
    shutdown_timeout: Duration,
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
    /// Creates a builder with the default settings.
    pub fn new() -> Builder {
        Builder {
            backend: None,
            selector: None,
            max_blocking_threads: DEFAULT_THREADS,
            shutdown_timeout: DEFAULT_GRACE,
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

    /// Sets the backend, which overrides the environment variable `POLYLOOP_BACKEND`.
    ///
    /// The default is epoll on Linux and kqueue on macOS and the BSDs, or else poll or select.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = Some(backend);
        self
    }

    /// Sets a custom selector, which overrides [`backend`](Builder::backend).
    pub fn selector(mut self, selector: Box<dyn Selector>) -> Builder {
        self.selector = Some(selector);
        self
    }

    /// Sets the maximum number of threads for [`spawn_blocking`](crate::spawn_blocking): 64 by default, and at least
    /// one.
    pub fn max_blocking_threads(mut self, max_threads: usize) -> Builder {
        self.max_blocking_threads = max_threads;
        self
    }

    /// Sets how long the end of the loop waits for blocking work that is running: one second by default.
    ///
    /// Work that takes longer is reported on standard error and continues on its thread. Its output is dropped.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Builder {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets the pool for [`spawn_blocking`](crate::spawn_blocking), which several runtimes may share.
    ///
    /// The pool's settings apply then. When the runtime is dropped, it waits for blocking work only if it holds the
    /// last handle of the pool.
    pub fn blocking_pool(mut self, pool: BlockingPool) -> Builder {
        self.blocking_pool = Some(pool);
        self
    }

    /// Enables virtual time: when no task is ready, the clock jumps to the next deadline. Disabled by default.
    ///
    /// Tests of timers then take no real time and are exact. Virtual time affects timers and [`now`](crate::now) only.
    ///
    /// Time stands still while blocking work that was spawned on the loop's thread is running, with
    /// [`spawn_blocking`](crate::spawn_blocking) or on a [`BlockingPool`](crate::BlockingPool), and during host name
    /// lookups: the loop waits for the result in real time. This includes work whose handle was dropped, so a job that
    /// never ends stops the clock permanently. The loop does not wait for other threads, other loops or descriptors,
    /// because it cannot know whether an event will arrive. Use [`hold_time`](crate::hold_time) to stop the clock for
    /// those.
    pub fn virtual_time(mut self, virtual_time: bool) -> Builder {
        self.virtual_time = virtual_time;
        self
    }

    /// Sets how long the loop spins, polling for events, before it sleeps. Zero, the default, disables spinning.
    ///
    /// Waking a halted processor takes tens of microseconds. With a limit of about that length, a loop that gets its
    /// next request shortly after each answer avoids this latency, at the cost of processor time. The loop spins only
    /// as long as spinning has recently found events.
    pub fn spin(mut self, limit: Duration) -> Builder {
        self.spin = limit;
        self
    }

    /// Runs ready tasks in a random order that `seed` determines, instead of first in, first out.
    ///
    /// Tests find rare interleavings this way. The same seed gives the same order if I/O, other threads and timing
    /// behave the same; with [`virtual_time`](Builder::virtual_time), a program without I/O is reproduced exactly.
    /// The environment variable `POLYLOOP_SEED` sets a seed if this method does not.
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

    /// Enables or disables debug mode, which overrides the environment variable `POLYLOOP_DEBUG` (`1` enables it).
    /// Disabled by default.
    ///
    /// In debug mode:
    ///
    /// - A poll that takes longer than [`slow_poll`](Builder::slow_poll) is reported, with the task's name and the
    ///   location where it was spawned.
    /// - A panic of a task or of blocking work is reported if its outcome is dropped unseen, with a handle, a
    ///   [`JoinSet`](crate::JoinSet) or a combinator.
    /// - [`TaskInfo::busy`](crate::task::TaskInfo::busy) is measured.
    /// - A deadlock is an error of kind `Deadlock` that lists every task and what it waits for. A loop is deadlocked if
    ///   no task is ready, no timer is armed, no task waits for a descriptor, no blocking work is running, and no other
    ///   thread could wake a task. The loop assumes that one could, while a task waits for a channel between threads
    ///   or a future of another crate has cloned a waker, or after a [`Handle`](crate::Handle) was created, unless the
    ///   process has no other thread.
    ///
    /// # Platform
    /// The number of threads is known on Linux only.
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
    /// // The sender is alive, but never sends.
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

    /// Sets how long a poll may take before debug mode reports it. The default is 100 ms.
    pub fn slow_poll(mut self, limit: Duration) -> Builder {
        self.slow_poll = limit;
        self
    }

    /// Sets a function that receives the reports of debug mode. By default they are printed to standard error.
    ///
    /// `reporter` is called on the loop's thread. A panic in it is caught.
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

    /// Prints the tree of tasks to standard error when the process receives the signal `signum`, such as
    /// [`SignalFd::QUIT`] (Ctrl-\), which Java and Go use for dumps.
    ///
    /// A task named `dump` prints it, so a loop that is blocked in a poll prints after that poll. The task counts in
    /// [`Metrics`](crate::Metrics). The signal's default action is disabled while the runtime exists.
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

    /// Creates the runtime.
    ///
    /// # Errors
    /// - `Unsupported` if this system lacks the backend.
    /// - `InvalidInput` if `POLYLOOP_BACKEND`, `POLYLOOP_DEBUG` or `POLYLOOP_SEED` has an invalid value, or if
    ///   [`dump_on`](Builder::dump_on) has a signal that cannot be caught.
    /// - `OutOfMemory` if 1,024 loops exist in the process.
    /// - The error of the system call that opens the selector, such as `EMFILE`.
    pub fn build(self) -> io::Result<Runtime> {
        let selector = match (self.selector, self.backend) {
            (Some(selector), _) => selector,
            (None, Some(backend)) => backend.open()?,
            (None, None) => default_selector()?,
        };
        let clock = if self.virtual_time { Clock::manual() } else { Clock::system() };
        let pool = self.blocking_pool.unwrap_or_else(|| {
            let settings = BlockingPool::builder().max_threads(self.max_blocking_threads);
            settings.shutdown_timeout(self.shutdown_timeout).build()
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
            .field("max_blocking_threads", &self.max_blocking_threads)
            .field("shutdown_timeout", &self.shutdown_timeout)
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
