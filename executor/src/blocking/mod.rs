//! Thread pools for work that blocks.
//!
//! Every loop has a [`BlockingPool`] for [`spawn_blocking`]. A program may create more: one with a single thread for
//! a library that is not thread-safe, or one with a thread per processor for computations. A function that runs on a
//! pool is a job.

mod pool;

mod builder;

mod abandon;

mod map;

mod job;

mod threads;

pub(crate) mod workers;

use std::panic::Location;
use std::time::Duration;

use crate::JoinHandle;
use crate::raw::current::current;
use crate::runtime::no_runtime::no_runtime;

#[doc(hidden)]
pub use abandon::AbandonOnDrop;
pub use builder::BlockingPoolBuilder;
pub use job::{RunningJob, UnfinishedJobs};
pub use map::{PoolMap, PoolMapIter};
pub use pool::BlockingPool;

/// The default maximum of threads of a pool.
///
/// Such threads mostly wait, for disks and name servers, so there may be many more than processors.
pub(crate) const DEFAULT_THREADS: usize = 64;

/// The default time that the end of a pool waits for its jobs.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Runs `work` on a thread where it may block, and returns a handle to its output.
///
/// The loop's pool starts a thread if none is idle, up to
/// [`Builder::max_blocking_threads`](crate::Builder::max_blocking_threads); further jobs are queued. When the runtime
/// ends, jobs that have not started are cancelled, and those that are running are waited for, up to
/// [`Builder::shutdown_timeout`](crate::Builder::shutdown_timeout). Jobs that take longer are reported on standard
/// error, with the line that spawned them, and continue.
///
/// A [`BlockingPool`] has separate threads, and works outside a runtime.
///
/// # Panics
/// Panics outside a runtime, or if the pool has no thread and none can be started.
///
/// # Cancel safety
/// Dropping the handle detaches the job. [`JoinHandle::abort`] cancels a job that has not started; what `work`
/// captures is dropped when a thread of the pool takes the job.
///
/// # References
/// Python's `asyncio.to_thread` and `loop.run_in_executor`, tokio's `spawn_blocking`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let text = polyloop::spawn_blocking(|| std::fs::read_to_string("Cargo.toml"));
/// assert!(text.await.unwrap().unwrap().contains("polyloop"));
/// # }).unwrap();
/// ```
#[doc(alias = "run_in_executor")]
#[doc(alias = "to_thread")]
#[doc(alias = "unblock")]
#[track_caller]
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let spawned_at = Location::caller();
    let spawned = current(|event_loop| pool::start(event_loop.workers(), None, spawned_at, work));
    let Some(spawned) = spawned else { no_runtime("`spawn_blocking` was called") };
    spawned.expect(pool::NO_THREAD)
}
