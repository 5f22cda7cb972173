//! The settings of a pool.

use std::time::Duration;

use super::{DEFAULT_GRACE, DEFAULT_THREADS};

/// The default of [`BlockingPoolBuilder::keep_alive`].
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A builder for a [`BlockingPool`](crate::BlockingPool).
///
/// # References
/// The parameters of Python's `concurrent.futures.ThreadPoolExecutor`.
///
/// # Examples
/// ```
/// use polyloop::blocking::BlockingPool;
///
/// let pool = BlockingPool::builder().name("disk").max_threads(4).build();
/// let thread = pool.spawn(|| std::thread::current().name().map(String::from));
/// # polyloop::run(async {
/// assert_eq!(thread.await.unwrap().as_deref(), Some("disk-1"));
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `build` to create the pool"]
pub struct BlockingPoolBuilder {
    pub(super) name: String,
    pub(super) max_threads: usize,
    pub(super) max_abandoned: usize,
    pub(super) keep_alive: Duration,
    pub(super) shutdown_timeout: Duration,
    pub(super) stack_size: Option<usize>,
}

impl BlockingPoolBuilder {
    /// Creates a builder with the default settings.
    pub fn new() -> BlockingPoolBuilder {
        BlockingPoolBuilder {
            name: "polyloop-blocking".into(),
            max_threads: DEFAULT_THREADS,
            max_abandoned: 0,
            keep_alive: DEFAULT_KEEP_ALIVE,
            shutdown_timeout: DEFAULT_GRACE,
            stack_size: None,
        }
    }

    /// Sets the name of the pool, `polyloop-blocking` by default. Its threads are named `name-1`, `name-2` and so on.
    ///
    /// # Panics
    /// Panics if the name contains a zero byte.
    ///
    /// # Platform
    /// Linux shows the first 15 bytes of a thread's name.
    #[track_caller]
    pub fn name(mut self, name: impl Into<String>) -> BlockingPoolBuilder {
        self.name = name.into();
        // Checked here, because starting a thread would panic later.
        assert!(!self.name.contains('\0'), "the name of a pool contains a zero byte");
        self
    }

    /// Sets the maximum number of threads: 64 by default, and at least one. Further jobs are queued.
    pub fn max_threads(mut self, max_threads: usize) -> BlockingPoolBuilder {
        self.max_threads = max_threads.max(1);
        self
    }

    /// Sets how many threads may run abandoned jobs without counting towards
    /// [`max_threads`](BlockingPoolBuilder::max_threads): none by default.
    #[doc(hidden)]
    pub fn max_abandoned(mut self, max_abandoned: usize) -> BlockingPoolBuilder {
        self.max_abandoned = max_abandoned;
        self
    }

    /// Sets how long an idle thread waits for a job before it ends: ten seconds by default.
    pub fn keep_alive(mut self, keep_alive: Duration) -> BlockingPoolBuilder {
        self.keep_alive = keep_alive;
        self
    }

    /// Sets how long dropping the last handle of the pool waits for jobs that are running: one second by default.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> BlockingPoolBuilder {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets the stack size of each thread in bytes. The default is that of [`std::thread::Builder::stack_size`].
    pub fn stack_size(mut self, bytes: usize) -> BlockingPoolBuilder {
        self.stack_size = Some(bytes);
        self
    }
}

impl Default for BlockingPoolBuilder {
    fn default() -> BlockingPoolBuilder {
        BlockingPoolBuilder::new()
    }
}
