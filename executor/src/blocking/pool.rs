//! A pool as its users hold it.

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

/// Runs jobs that block, on a bounded number of threads of its own.
///
/// It needs no loop: jobs are spawned and awaited from tasks of any loop, from other executors
/// and from plain threads. Cloning it makes another handle to the same pool. Threads are started
/// as they are needed, take jobs in the order in which those were spawned, and end when there are
/// none for a while.
///
/// The pool ends with its last handle, as if by [`shutdown`](BlockingPool::shutdown) with the
/// [grace](BlockingPoolBuilder::shutdown_grace) that it was made with; jobs that do not end in
/// that time are named on standard error, one in a line. That blocks the thread, but never for
/// ever, and on a thread of the pool it does not wait for itself.
///
/// A job that waits for another job of its pool may wait for ever, because all threads may do
/// the same while the other is queued.
///
/// # Platform
/// A forked child has no threads but the one that forked. There, spawning fails, and the rest
/// finds an empty pool.
///
/// # References
/// Python's `concurrent.futures.ThreadPoolExecutor`: `submit` is [`spawn`](BlockingPool::spawn),
/// its `wait` and `as_completed` are [`wait`](crate::wait) and
/// [`as_completed`](crate::as_completed), which take the handles of jobs as of tasks.
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
    /// Makes a pool of up to `max_threads` threads, with the default settings.
    pub fn new(max_threads: usize) -> BlockingPool {
        BlockingPool::builder().max_threads(max_threads).build()
    }

    /// Returns the settings to change before making a pool.
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

    /// Runs `work` on a thread of the pool, and returns a handle to its result.
    ///
    /// If all threads are busy it waits in a queue, which has no bound. The handle can be awaited
    /// anywhere, and a plain thread [joins](JoinHandle::join) it. If the pool has been shut down,
    /// it says cancelled.
    ///
    /// # Panics
    /// Where [`try_spawn`](BlockingPool::try_spawn) is an error.
    ///
    /// # Cancel safety
    /// The handle may be dropped: the work goes on. [`JoinHandle::abort`] cancels it if it has not
    /// begun.
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
    /// assert_eq!(answer.join(Duration::from_secs(60)).unwrap().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn spawn<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        start(&self.workers, None, Location::caller(), work).expect(NO_THREAD)
    }

    /// Runs `work` as [`spawn`](BlockingPool::spawn) does, as a job with a name.
    ///
    /// That is what it is called where jobs are listed: by [`running`](BlockingPool::running), and
    /// when it does not end. Other jobs are called after the line that spawned them.
    ///
    /// # Panics
    /// As `spawn`.
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

    /// Runs `work` as [`spawn`](BlockingPool::spawn) does, where running out of threads must be
    /// survived.
    ///
    /// # Errors
    /// If the pool has no thread and the system refuses to start one; if there is one at least, it
    /// will come to the job. In a forked child. The work has been dropped.
    #[track_caller]
    pub fn try_spawn<F, T>(&self, work: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        start(&self.workers, None, Location::caller(), work)
    }

    /// Calls `f` with each of `items` on the pool, and returns the results in the order of the
    /// items: see [`PoolMap`] for who waits for them, and how many are worked on ahead.
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

    /// Returns the jobs that run, those that have run longest first.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let ((began, has_begun), (end, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    /// let job = pool.spawn_named("wait", move || {
    ///     began.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// has_begun.recv().unwrap();
    /// assert_eq!(pool.running()[0].name(), Some("wait"));
    /// # drop(end);
    /// ```
    pub fn running(&self) -> Vec<RunningJob> {
        self.workers.threads().map_or_else(|_| Vec::new(), |threads| threads.running())
    }

    /// Reports whether a job runs or is queued.
    pub fn is_busy(&self) -> bool {
        self.workers.threads().is_ok_and(|threads| threads.is_busy())
    }

    /// Returns the number of threads there are at present.
    pub fn n_threads(&self) -> usize {
        self.workers.threads().map_or(0, |threads| threads.n_threads())
    }

    /// Reports whether the pool takes in no more jobs.
    pub fn is_closed(&self) -> bool {
        self.workers.threads().map_or(true, |threads| threads.is_closed())
    }

    /// Takes in no more jobs, for any handle. Those that were spawned are run; nothing is waited
    /// for.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown(wait=False)`.
    pub fn close(&self) {
        if let Ok(threads) = self.workers.threads() {
            threads.close();
        }
    }

    /// Closes the pool, cancels the jobs that have not begun, and waits up to `limit` for those
    /// that have.
    ///
    /// It blocks the thread. In a task, await `spawn_blocking(move || pool.shutdown(limit))`. On a
    /// thread of the pool it waits for the other threads.
    ///
    /// # Errors
    /// Names the jobs that have not ended in time. They go on by themselves, and dropping the pool
    /// does not wait for them again.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown(cancel_futures=True)`, which waits for ever.
    ///
    /// # Examples
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let ((began, has_begun), (end, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    /// let job = pool.spawn_named("endless", move || {
    ///     began.send(()).unwrap();
    ///     wait.recv()
    /// });
    /// has_begun.recv().unwrap();
    /// let unfinished = pool.shutdown(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(unfinished.running()[0].name(), Some("endless"));
    /// # drop(end);
    /// ```
    pub fn shutdown(&self, limit: Duration) -> Result<(), UnfinishedJobs> {
        self.shut_down(limit, Queued::Cancel)
    }

    /// Closes the pool and waits up to `limit` until all jobs that were spawned have been run.
    ///
    /// When the time is over, those that have not begun are cancelled. It blocks the thread, as
    /// [`shutdown`](BlockingPool::shutdown) does. Called by a job of the pool, it waits for the
    /// other threads, and returns with jobs in the queue if that job's own thread has to run them.
    ///
    /// # Errors
    /// Names the jobs that have not ended in time, and says how many were cancelled.
    ///
    /// # References
    /// Python's `ThreadPoolExecutor.shutdown()`, which waits for ever.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let pool = polyloop::blocking::BlockingPool::new(1);
    /// let jobs: Vec<_> = (0..10).map(|i| pool.spawn(move || i)).collect();
    /// pool.finish(Duration::from_secs(60))?;
    /// # polyloop::run(async {
    /// for (i, job) in jobs.into_iter().enumerate() {
    ///     assert_eq!(job.await.unwrap(), i);
    /// }
    /// # }).unwrap();
    /// # Ok::<(), polyloop::blocking::UnfinishedJobs>(())
    /// ```
    pub fn finish(&self, limit: Duration) -> Result<(), UnfinishedJobs> {
        self.shut_down(limit, Queued::Run)
    }

    fn shut_down(&self, limit: Duration, queued: Queued) -> Result<(), UnfinishedJobs> {
        match self.workers.threads() {
            Ok(threads) => threads.shut_down(limit, queued),
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

    /// Returns the number of threads that there may be.
    pub(super) fn max_threads(&self) -> usize {
        self.workers.settings().max_threads
    }
}

impl BlockingPoolBuilder {
    /// Makes the pool. Its threads are started when there is work for them.
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
    // A job's time is the program's own.
    let job = Job::new(Label { name, spawned_at }, work, sender, origin, hold_time());
    Threads::queue(workers.threads()?, job)?;
    Ok(JoinHandle::of_packet(packet))
}

/// What is said where `try_spawn` would return an error.
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
