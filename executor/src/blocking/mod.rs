//! Work that blocks, on threads of its own.
//!
//! Every loop has a [`BlockingPool`] for [`spawn_blocking`], and a program may make more: one with
//! a single thread for a library that is not thread-safe, one with four for work that fills
//! processors. What is done on them is called a job.

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

/// The most threads of a pool, unless its builder says otherwise.
///
/// Such threads mostly wait, for disks and name servers, so there may be many more than
/// processors; 64 stacks are still no burden.
pub(crate) const DEFAULT_THREADS: usize = 64;

/// How long the end of a pool waits for its jobs, unless its builder says otherwise.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Runs `work` on a thread where it may block, and returns a handle to its result.
///
/// The loop's pool starts a thread when none is idle, up to
/// [`Builder::blocking_threads`](crate::Builder::blocking_threads); further work queues. At the
/// end of the loop, work that has not begun is cancelled, and work that has is waited for up to
/// [`Builder::shutdown_grace`](crate::Builder::shutdown_grace). What has not ended then is named
/// on standard error, with the line that spawned it, and left to itself.
///
/// For a pool of one's own, or outside a loop, there is [`BlockingPool`].
///
/// # Panics
/// Outside a loop. If not a single thread can be started.
///
/// # Cancel safety
/// The handle may be dropped: the work goes on. [`JoinHandle::abort`] cancels it if it has not
/// begun; what it captures is dropped when a thread of the pool takes it.
///
/// # References
/// Python's `asyncio.to_thread`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let text = polyloop::spawn_blocking(|| std::fs::read_to_string("Cargo.toml"));
/// assert!(text.await.unwrap().unwrap().contains("polyloop"));
/// # }).unwrap();
/// ```
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
