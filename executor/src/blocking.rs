//! Work that blocks, on threads of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::JoinHandle;
use crate::packet::{Packet, Sender};
use crate::stage::quietly;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, spawn_thread, wait_at_most, wait_idle};
use crate::waker::current;

/// The most blocking threads of a loop, unless the builder says otherwise.
///
/// Such threads mostly wait, for disks and name servers, so there may be many more than
/// processors; 64 stacks are still no burden.
pub(crate) const DEFAULT_THREADS: usize = 64;

/// How long the end of a loop waits for blocking work, unless the builder says otherwise.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// How long a thread waits for more work before it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs `work` on a thread where it may block, and returns a handle to its result.
///
/// The loop's pool starts a thread when none is idle, up to
/// [`Builder::blocking_threads`](crate::Builder::blocking_threads); further work queues. At the
/// end of the loop, work that has not begun is cancelled, and work that has is waited for up to
/// [`Builder::shutdown_grace`](crate::Builder::shutdown_grace).
///
/// # Panics
/// Outside a loop. If not a single thread can be started.
///
/// # Cancel safety
/// The handle may be dropped: the work goes on. [`JoinHandle::abort`] cancels it if it has not
/// begun.
///
/// # References
/// Python's `asyncio.to_thread`.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let text = polyloop_executor::spawn_blocking(|| std::fs::read_to_string("Cargo.toml"));
/// assert!(text.await.unwrap().unwrap().contains("polyloop"));
/// # }).unwrap();
/// ```
pub fn spawn_blocking<F, T>(work: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let (packet, sender) = Packet::new();
    let spawned = current(|event_loop| event_loop.pool.spawn(job(work, sender)));
    spawned
        .expect("`spawn_blocking` was called outside a loop")
        .expect("no thread could be started for blocking work");
    JoinHandle::of_packet(packet)
}

fn job<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    sender: Sender<T>,
) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        if !sender.is_aborted() {
            sender.run(work);
        }
    })
}

/// The blocking threads of one loop.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    grace: Duration,
}

struct Shared {
    max_threads: usize,
    state: Mutex<State>,
    /// Something was queued, or the pool was closed.
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
    n_threads: usize,
    /// Threads that wait for work. One that was notified counts until it has taken its job, and
    /// the job stays in the queue for as long, so the two are always compared fairly.
    n_idle: usize,
    /// Threads that were started and have not come to the queue yet.
    n_starting: usize,
    /// All threads that were ever started, for their names.
    n_started: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(max_threads: usize, grace: Duration) -> Pool {
        let shared = Shared {
            max_threads: max_threads.max(1),
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ended: Condvar::new(),
        };
        Pool { shared: Arc::new(shared), grace }
    }

    /// Reports whether a job is queued or runs.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.shared.lock();
        !state.queue.is_empty() || state.n_threads > state.n_idle
    }

    /// Returns the number of threads there are.
    pub(crate) fn n_threads(&self) -> usize {
        self.shared.lock().n_threads
    }

    /// Queues a job and sees to it that a thread will take it.
    fn spawn(&self, job: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.closed {
            // Dropping the job tells its handle that it was cancelled.
            drop(state);
            drop(job);
            return Ok(());
        }
        state.queue.push_back(job);
        let n_expected = state.n_idle + state.n_starting;
        if state.queue.len() <= n_expected || state.n_threads == self.shared.max_threads {
            self.shared.work.notify_one();
            return Ok(());
        }
        state.n_threads += 1;
        state.n_starting += 1;
        state.n_started += 1;
        let name = format!("polyloop-blocking-{}", state.n_started);
        let shared = Arc::clone(&self.shared);
        let started = spawn_thread(name, move || shared.serve());
        if let Err(error) = started {
            state.n_threads -= 1;
            state.n_starting -= 1;
            if state.n_threads == 0 {
                let job = state.queue.pop_back();
                drop(state);
                drop(job);
                return Err(error);
            }
            // The threads there are will come to it.
        }
        Ok(())
    }
}

impl Shared {
    /// Is a blocking thread: takes jobs until there are none for a while.
    fn serve(&self) {
        let mut state = self.lock();
        state.n_starting -= 1;
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // The work's panic goes to its handle; this is for an output that nobody takes and
                // whose destructor panics.
                quietly(job);
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.n_idle += 1;
            state = wait_idle((&self.state, &self.work), state, KEEP_ALIVE, |state| {
                state.queue.is_empty() && !state.closed
            });
            state.n_idle -= 1;
            if state.queue.is_empty() {
                // Waited long enough, or closed. A job cannot slip in: the lock is held.
                break;
            }
        }
        state.n_threads -= 1;
        drop(state);
        self.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    /// Cancels what has not begun and waits a bounded time for what has.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        for job in queue {
            quietly(|| drop(job));
        }
        self.shared.work.notify_all();
        let deadline = Instant::now().checked_add(self.grace);
        let mut state = self.shared.lock();
        while state.n_threads > 0 {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                // The job ends on its own thread, and its result has nobody to go to.
                break;
            }
            state = wait_at_most(&self.shared.ended, state, left);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn pool() -> Pool {
        Pool::new(1, Duration::MAX)
    }

    fn count(n_runs: &Arc<AtomicUsize>) -> Box<dyn FnOnce() + Send> {
        let n_runs = Arc::clone(n_runs);
        Box::new(move || {
            n_runs.fetch_add(1, Ordering::SeqCst);
        })
    }

    /// Waits until all threads have ended by themselves, for want of work.
    fn wait_for_threads(pool: &Pool) {
        let mut state = pool.shared.lock();
        while state.n_threads > 0 {
            state = wait_at_most(&pool.shared.ended, state, Duration::MAX);
        }
    }

    #[test]
    fn loom_a_job_against_an_idle_thread_that_goes_is_run() {
        loom::model(|| {
            let (pool, n_runs) = (pool(), Arc::new(AtomicUsize::new(0)));
            for _ in 0..2 {
                pool.spawn(count(&n_runs)).unwrap();
            }
            wait_for_threads(&pool);
            assert_eq!(n_runs.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn loom_a_job_against_the_end_of_the_pool_is_run_or_dropped() {
        loom::model(|| {
            let (pool, n_runs) = (pool(), Arc::new(AtomicUsize::new(0)));
            let (packet, sender) = Packet::new();
            let runs = count(&n_runs);
            pool.spawn(job(runs, sender)).unwrap();
            drop(pool);
            let outcome = loom::future::block_on(std::future::poll_fn(|cx| packet.poll_take(cx)));
            assert_eq!(n_runs.load(Ordering::SeqCst), usize::from(outcome.is_ok()));
        });
    }
}
