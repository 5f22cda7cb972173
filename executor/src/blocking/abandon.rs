//! Jobs that are abandoned when no one awaits them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::BlockingPool;
use super::threads::Threads;
use crate::{JoinError, JoinHandle};

/// Awaits the output of a job, and abandons the job when dropped. Made by
/// [`BlockingPool::try_spawn_abandonable`].
///
/// A job in the queue is removed, and what it captured is dropped. A job that runs cannot be stopped: it
/// continues, but its thread does not count towards the maximum, up to the number of
/// [`max_abandoned`](super::BlockingPoolBuilder::max_abandoned), and the end of the pool does not wait for it.
///
/// # Cancel safety
/// The output is discarded.
///
/// # References
/// The parameter `abandon_on_cancel` of trio's `to_thread.run_sync`.
#[derive(Debug)]
#[must_use = "dropping it abandons the job"]
pub struct AbandonOnDrop<T> {
    handle: JoinHandle<T>,
    pool: BlockingPool,
    /// The job's number; `None` once the output was returned.
    job: Option<u64>,
}

impl<T> AbandonOnDrop<T> {
    pub(super) fn new(pool: BlockingPool, job: u64, handle: JoinHandle<T>) -> AbandonOnDrop<T> {
        AbandonOnDrop { handle, pool, job: Some(job) }
    }
}

impl<T: 'static> Future for AbandonOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = ready!(Pin::new(&mut self.handle).poll(cx));
        self.job = None;
        Poll::Ready(output)
    }
}

impl<T> Drop for AbandonOnDrop<T> {
    fn drop(&mut self) {
        let Some(job) = self.job else { return };
        // In a forked child the threads are the parent's.
        if let Ok(threads) = self.pool.workers().threads() {
            Threads::abandon(threads, job);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;
    use std::sync::{Arc, mpsc};
    use std::task::Waker;
    use std::thread;
    use std::time::{Duration, Instant};

    use polyloop_reactor::PerProcess;
    use polyloop_reactor::conformance::in_forked_child;

    use super::*;

    /// A limit for what takes no time unless the test fails.
    const LONG: Duration = Duration::from_secs(20);

    fn pool(max_threads: usize) -> BlockingPool {
        BlockingPool::builder().max_threads(max_threads).max_abandoned(1).build()
    }

    /// Spawns a job that runs until the sender is dropped, and waits until it has started.
    fn hang(pool: &BlockingPool, until: mpsc::Receiver<()>) -> AbandonOnDrop<()> {
        let (started, has_started) = mpsc::channel();
        let job = pool.try_spawn_abandonable(move || {
            started.send(()).unwrap();
            until.recv().unwrap_err();
        });
        has_started.recv_timeout(LONG).unwrap();
        job.unwrap()
    }

    #[test]
    fn an_abandoned_job_leaves_the_queue_and_drops_what_it_captured() {
        let pool = pool(1);
        let (release, until) = mpsc::channel();
        let running = hang(&pool, until);
        let captured = Arc::new(());
        let jobs: Vec<_> = (0..10_000)
            .map(|_| {
                let captured = Arc::clone(&captured);
                pool.try_spawn_abandonable(move || drop(captured)).unwrap()
            })
            .collect();
        assert_eq!(Arc::strong_count(&captured), 10_001);
        drop(jobs);
        assert_eq!(Arc::strong_count(&captured), 1);
        drop(release);
        crate::run(running).unwrap().unwrap();
    }

    #[test]
    fn the_end_of_a_pool_does_not_wait_for_an_abandoned_job() {
        let pool = BlockingPool::builder().shutdown_timeout(LONG).build();
        let (release, until) = mpsc::channel();
        drop(hang(&pool, until));
        let start = Instant::now();
        drop(pool);
        assert!(start.elapsed() < LONG / 2, "it waited for {:?}", start.elapsed());
        drop(release);
    }

    #[test]
    fn a_wait_for_the_end_of_a_pool_ends_when_the_last_job_is_abandoned() {
        let pool = pool(1);
        let (release, until) = mpsc::channel();
        let job = hang(&pool, until);
        let closing = pool.clone();
        let waiting = thread::spawn(move || {
            let threads = closing.workers().threads().unwrap();
            threads.shut_down(LONG, crate::blocking::threads::Queued::Run)
        });
        while !pool.is_closed() {
            thread::yield_now();
        }
        drop(job);
        waiting.join().unwrap().unwrap();
        drop(release);
    }

    #[test]
    fn a_job_that_is_abandoned_while_it_runs_gives_its_place_to_another() {
        let pool = pool(1);
        let (release, until) = mpsc::channel();
        drop(hang(&pool, until));
        // In place of the thread that runs the abandoned job.
        let (second_release, until) = mpsc::channel();
        let second = hang(&pool, until);
        let next = pool.try_spawn_abandonable(|| 7).unwrap();
        assert_eq!(pool.workers().census().n_threads, 2);
        // No more than one is replaced, so the next job waits for one of the two threads.
        drop(second);
        assert_eq!(pool.workers().census().n_threads, 2);
        drop(release);
        assert_eq!(crate::run(next).unwrap().unwrap(), 7);
        drop(second_release);
    }

    #[test]
    fn a_forked_child_waits_for_no_lock_of_its_parents() {
        static POOL: PerProcess<BlockingPool> = PerProcess::new(|_parents| BlockingPool::new(1));
        let pool = POOL.get();
        let mut job = Some(pool.try_spawn_abandonable(|| ()).unwrap());
        // As another thread may hold it during the fork: the child's copy stays locked.
        let threads = Arc::clone(pool.workers().threads().unwrap());
        let locked = threads.lock();
        let code = in_forked_child(|| {
            drop(job.take());
            let mut job = pin!(POOL.get().try_spawn_abandonable(|| 7).unwrap());
            let deadline = Instant::now() + LONG;
            while Instant::now() < deadline {
                let cx = &mut Context::from_waker(Waker::noop());
                if let Poll::Ready(output) = job.as_mut().poll(cx) {
                    return output.unwrap() == 7;
                }
                thread::yield_now();
            }
            false
        });
        drop(locked);
        assert_eq!(code.unwrap(), 0);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::time::Duration;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_job_that_is_abandoned_against_its_start_runs_at_most_once_and_holds_up_no_other() {
        loom::model(|| {
            let pool = BlockingPool::builder().max_threads(1).max_abandoned(1);
            let pool = pool.keep_alive(Duration::ZERO).shutdown_timeout(Duration::MAX).build();
            let n_runs = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&n_runs);
            let job = pool.try_spawn_abandonable(move || {
                count.fetch_add(1, Ordering::SeqCst);
            });
            let thread = thread::spawn(move || drop(job));
            assert_eq!(block_on(pool.try_spawn_abandonable(|| 7).unwrap()).unwrap(), 7);
            thread.join().unwrap();
            assert!(n_runs.load(Ordering::SeqCst) <= 1);
        });
    }
}
