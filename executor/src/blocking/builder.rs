//! What a pool is made with.

use std::time::Duration;

use super::{DEFAULT_GRACE, DEFAULT_THREADS};

/// How long a thread waits for more work before it ends, unless the builder says otherwise.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Settings of a pool that is to be made.
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
#[must_use = "nothing is made before `build` is called"]
pub struct BlockingPoolBuilder {
    pub(super) name: String,
    pub(super) max_threads: usize,
    pub(super) max_abandoned: usize,
    pub(super) keep_alive: Duration,
    pub(super) shutdown_grace: Duration,
    pub(super) stack_size: Option<usize>,
}

impl BlockingPoolBuilder {
    /// Begins with the default settings.
    pub fn new() -> BlockingPoolBuilder {
        BlockingPoolBuilder {
            name: "polyloop-blocking".into(),
            max_threads: DEFAULT_THREADS,
            max_abandoned: 0,
            keep_alive: DEFAULT_KEEP_ALIVE,
            shutdown_grace: DEFAULT_GRACE,
            stack_size: None,
        }
    }

    /// Names the pool, and its threads after it: `name-1` and so on. "polyloop-blocking" by
    /// default.
    ///
    /// # Panics
    /// If the name contains a zero byte.
    ///
    /// # Platform
    /// Linux shows the first 15 bytes of a thread's name.
    #[track_caller]
    pub fn name(mut self, name: impl Into<String>) -> BlockingPoolBuilder {
        self.name = name.into();
        // Found out here, because to the thread that is to be started it would be a panic.
        assert!(!self.name.contains('\0'), "the name of a pool contains a zero byte");
        self
    }

    /// Bounds the threads: 64 by default, 1 at least. Further jobs queue.
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

    /// Chooses how long a thread waits for another job before it ends: ten seconds by default.
    pub fn keep_alive(mut self, keep_alive: Duration) -> BlockingPoolBuilder {
        self.keep_alive = keep_alive;
        self
    }

    /// Bounds how long dropping the pool's last handle waits for jobs: one second by default.
    pub fn shutdown_grace(mut self, grace: Duration) -> BlockingPoolBuilder {
        self.shutdown_grace = grace;
        self
    }

    /// Chooses the size of each thread's stack, in bytes: by default that of
    /// [`std::thread::Builder::stack_size`].
    pub fn stack_size(mut self, n_bytes: usize) -> BlockingPoolBuilder {
        self.stack_size = Some(n_bytes);
        self
    }
}

impl Default for BlockingPoolBuilder {
    fn default() -> BlockingPoolBuilder {
        BlockingPoolBuilder::new()
    }
}
