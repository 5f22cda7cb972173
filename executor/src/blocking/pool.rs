//! The handle to a pool.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::panic::Location;
use std::time::Duration;

use super::job::{Job, Label};
use super::threads::{Queued, Threads};
use super::workers::Workers;
use super::{AbandonOnDrop, BlockingPoolBuilder, PoolMap, RunningJob, UnfinishedJobs};
use crate::JoinHandle;
use crate::join::packet::Packet;
use crate::running::origin_of_job;
use crate::time::hold_time;

/// A thread pool for work that blocks.
///
/// The pool needs no event loop: jobs are spawned and awaited from tasks of any loop, from other executors and from
/// plain threads. Cloning the pool creates another handle to it. Threads are started on demand, up to a maximum, take
/// jobs first in, first out, and end when they have been idle for a while.
///
/// Dropping the last handle does what [`shutdown_now`](BlockingPool::shutdown_now) does, with the timeout of
/// [`shutdown_timeout`](BlockingPoolBuilder::shutdown_timeout). That blocks the thread. Jobs that are still running
/// then are reported on standard error, one in each line. On a thread of the pool, the drop does not wait for the job
/// that runs there.
///
/// A job that waits for another job of the same pool can deadlock: all threads may be waiting while the other job is
/// queued.
///
/// # Platform
/// A forked child has only the thread that forked. In the child spawning fails, and the other methods find an empty
/// pool.
///
/// # References
/// Python's `concurrent.futures.ThreadPoolExecutor`: `submit` is [`spawn`](BlockingPool::spawn),
/// its `wait` and `as_completed` are [`wait`](crate::wait) and
/// [`as_completed`](crate::as_completed), which take handles of jobs and of tasks.
///
/// # Examples
/// ```
/// use std::sync::mpsc;
/// use polyloop::blocking::BlockingPool;
/// use polyloop::future::{Until, as_completed, wait};
///
/// # polyloop::run(async {
/// let pool = BlockingPool::new(2);
/// let (answer, question) = mpsc::channel();
/// let slow = pool.spawn(move || question.recv().unwrap());
/// let quick = pool.spawn(|| 7);
///
/// let waited = wait([slow, quick], Until::First, None).await;
/// assert!(matches!(waited.done[..], [(1, Ok(7))]));
///
/// answer.send(42).unwrap();
/// let left = waited.pending.into_iter().map(|(_, job)| job);
/// let mut done = as_completed(left);
/// assert_eq!(done.join_next().await.unwrap().unwrap().unwrap(), 42);
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct BlockingPool {
    workers: Workers,
}

impl BlockingPool {
    /// Creates a pool of up to `max_threads` threads, with default settings otherwise.
    pub fn new(max_threads: usize) -> BlockingPool {
        BlockingPool::builder().max_threads(max_threads).build()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> BlockingPoolBuilder {
        BlockingPoolBuilder::new()
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// Returns the threads, for a loop.
    pub(crate) fn into_workers(self) -> Workers {
        self.workers
    }

    /// Runs `work` on a thread of the pool, and returns a handle to its output.
    ///
    /// If all threads are busy, the job waits in a queue, which is unbounded. The handle can be awaited anywhere, or
    /// [joined](JoinHandle::join) by a plain thread. If the pool was closed, the job is cancelled.
    ///
    /// # Panics
    /// Panics where [`try_spawn`](BlockingPool::try_spawn) returns an error.
    ///
    /// # Cancel safety
    /// Dropping the handle detaches the job. [`JoinHandle::abort`] cancels a job that has not started.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.submit`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::blocking::BlockingPool;
    ///
    /// let pool = BlockingPool::new(4);
    /// let text = pool.spawn(|| std::fs::read_to_string("Cargo.toml"));
    /// # polyloop::run(async {
    /// assert!(text.await.unwrap().unwrap().contains("polyloop"));
    /// # }).unwrap();
    ///
    /// // Without a loop:
    /// let mut answer = pool.spawn(|| 6 * 7);
    /// assert_eq!(answer.join_timeout(Duration::from_secs(60)).unwrap().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        start(&self.workers, None, Location::caller(), work).expect(NO_THREAD)
    }

    /// Runs `work` as [`spawn`](BlockingPool::spawn) does, and names the job.
    ///
    /// The name identifies the job in [`running`](BlockingPool::running) and in [`UnfinishedJobs`]. Jobs without a
    /// name are identified by the line that spawned them.
    ///
    /// # Panics
    /// Panics where `spawn` does.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let backup = pool.spawn_named("backup", || "done");
    /// assert_eq!(backup.await.unwrap(), "done");
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn_named<F, T>(&self, name: impl Into<Cow<'static, str>>, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        start(&self.workers, Some(name.into()), Location::caller(), work).expect(NO_THREAD)
    }

    /// Runs `work` as [`spawn`](BlockingPool::spawn) does, and returns an error instead of panicking.
    ///
    /// # Errors
    /// Returns an error in a forked child, or if the pool has no thread and the system refuses to start one. `work` has
    /// been dropped.
    /// A pool with at least one thread queues the job.
    #[track_caller]
    pub fn try_spawn<F, T>(&self, work: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        start(&self.workers, None, Location::caller(), work)
    }

    /// Calls `f` with each of `items` on the pool, and yields the outputs in the order of the items.
    ///
    /// See [`PoolMap`] for how outputs are taken and how many items are processed ahead.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.map`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::blocking::BlockingPool;
    ///
    /// let pool = BlockingPool::new(4);
    /// let squares: Result<Vec<u64>, _> = pool.map(1..4, |i| i * i).into_iter().collect();
    /// assert_eq!(squares.unwrap(), [1, 4, 9]);
    /// ```
    #[track_caller]
    pub fn map<I, F, T>(&self, items: I, f: F) -> PoolMap<I::IntoIter, F, T>
    where
        I: IntoIterator,
        I::Item: Send + 'static,
        F: Fn(I::Item) -> T + Send + Sync + 'static,
        T: Send + 'static,
    {
        PoolMap::new(self.clone(), items.into_iter(), f, Location::caller())
    }

    /// Returns the jobs that are running, the longest running first.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let ((start, has_started), (end, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    /// let job = pool.spawn_named("wait", move || {
    ///     start.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// has_started.recv().unwrap();
    /// assert_eq!(pool.running()[0].name(), Some("wait"));
    /// # drop(end);
    /// ```
    pub fn running(&self) -> Vec<RunningJob> {
        self.workers.threads().map_or_else(|_| Vec::new(), |threads| threads.running())
    }

    /// Reports whether a job is running or queued.
    pub fn is_busy(&self) -> bool {
        self.workers.threads().is_ok_and(|threads| threads.is_busy())
    }

    /// Returns the current number of threads.
    pub fn threads(&self) -> usize {
        self.workers.threads().map_or(0, |threads| threads.n_threads())
    }

    /// Reports whether the pool was closed, and so accepts no more jobs.
    pub fn is_closed(&self) -> bool {
        self.workers.threads().map_or(true, |threads| threads.is_closed())
    }

    /// Closes the pool for all its handles: jobs that were spawned before run, later ones are cancelled.
    ///
    /// It does not wait.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown(wait=False)`.
    pub fn close(&self) {
        if let Ok(threads) = self.workers.threads() {
            threads.close();
        }
    }

    /// Closes the pool, and waits up to `timeout` until all jobs have run.
    ///
    /// When the timeout elapses, the jobs that have not started are cancelled. This blocks the thread: in a task,
    /// await `spawn_blocking(move || pool.shutdown(timeout))`. Called by a job of the pool, it waits for the other
    /// threads, and returns while jobs are queued that the calling thread has to run.
    ///
    /// # Errors
    /// Returns [`UnfinishedJobs`] if the timeout elapsed. Jobs that are running continue, and dropping the pool does
    /// not wait for them again.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown()`, Java's `ExecutorService.shutdown` and `awaitTermination`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let jobs: Vec<_> = (0..10).map(|i| pool.spawn(move || i)).collect();
    /// pool.shutdown(Duration::from_secs(60))?;
    /// # polyloop::run(async {
    /// for (i, job) in jobs.into_iter().enumerate() {
    ///     assert_eq!(job.await.unwrap(), i);
    /// }
    /// # }).unwrap();
    /// # Ok::<(), polyloop::blocking::UnfinishedJobs>(())
    /// ```
    pub fn shutdown(&self, timeout: Duration) -> Result<(), UnfinishedJobs> {
        self.shut_down(timeout, Queued::Run)
    }

    /// Closes the pool, cancels the jobs that have not started, and waits up to `timeout` for the others.
    ///
    /// Otherwise as [`shutdown`](BlockingPool::shutdown).
    ///
    /// # Errors
    /// Returns [`UnfinishedJobs`] if the timeout elapsed.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown(cancel_futures=True)`, Java's `ExecutorService.shutdownNow`.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let ((start, has_started), (end, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    /// let job = pool.spawn_named("endless", move || {
    ///     start.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// has_started.recv().unwrap();
    /// let unfinished = pool.shutdown_now(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(unfinished.running()[0].name(), Some("endless"));
    /// # drop(end);
    /// ```
    pub fn shutdown_now(&self, timeout: Duration) -> Result<(), UnfinishedJobs> {
        self.shut_down(timeout, Queued::Cancel)
    }

    fn shut_down(&self, timeout: Duration, queued: Queued) -> Result<(), UnfinishedJobs> {
        match self.workers.threads() {
            Ok(threads) => threads.shut_down(timeout, queued),
            Err(_) => Ok(()),
        }
    }

    /// Runs `work` as [`try_spawn`](BlockingPool::try_spawn) does, and abandons it if the returned future is
    /// dropped: see [`AbandonOnDrop`].
    ///
    /// For name lookups. The job does not hold virtual time; the caller does, where it should.
    ///
    /// # Errors
    /// As for `try_spawn`.
    #[doc(hidden)]
    #[track_caller]
    pub fn try_spawn_abandonable<F, T>(&self, work: F) -> io::Result<AbandonOnDrop<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let label = Label { name: None, spawned_at: Location::caller() };
        let (packet, sender) = Packet::of_job();
        let origin = origin_of_job(None, label.spawned_at);
        let job = Job::new(label, work, sender, origin, ());
        let job = Threads::queue(self.workers.threads()?, job)?;
        Ok(AbandonOnDrop::new(self.clone(), job, JoinHandle::of_packet(packet)))
    }

    /// Returns the maximum number of threads.
    pub(super) fn max_threads(&self) -> usize {
        self.workers.settings().max_threads
    }
}

impl BlockingPoolBuilder {
    /// Creates the pool. Its threads are started when jobs are spawned.
    pub fn build(self) -> BlockingPool {
        BlockingPool { workers: Workers::new(self) }
    }
}

/// Queues a job.
pub(super) fn start<F, T>(
    workers: &Workers,
    name: Option<Cow<'static, str>>,
    spawned_at: &'static Location<'static>,
    work: F,
) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (packet, sender) = Packet::of_job();
    let origin = origin_of_job(name.as_deref(), spawned_at);
    // Virtual time must not pass while the job runs.
    let job = Job::new(Label { name, spawned_at }, work, sender, origin, hold_time());
    Threads::queue(workers.threads()?, job)?;
    Ok(JoinHandle::of_packet(packet))
}

/// The panic message where `try_spawn` returns an error.
pub(super) const NO_THREAD: &str = "no thread could be started for blocking work";

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.workers.settings();
        f.debug_struct("BlockingPool")
            .field("name", &settings.name)
            .field("max_threads", &settings.max_threads)
            .finish_non_exhaustive()
    }
}
