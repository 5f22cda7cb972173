//! The threads of a pool: how they take jobs, and how they end.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::builder::BlockingPoolBuilder;
use super::job::{Job, Label, RunningJob, UnfinishedJobs};
use crate::catch::quietly;
use crate::sync::{
    Arc, Condvar, Mutex, MutexGuard, ThreadId, spawn_thread, this_thread, wait_at_most, wait_idle,
};

/// The threads and their queue, which outlive the pool's handles if a job does.
pub(super) struct Threads {
    pub(super) settings: BlockingPoolBuilder,
    state: Mutex<State>,
    /// Notified when a job was queued or the pool was closed.
    work: Condvar,
    /// Notified when a thread has ended.
    ended: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// The jobs that no thread has taken, by number: first in, first out, and one can be taken back.
    queue: BTreeMap<u64, Job>,
    /// The number of the next job.
    next_job: u64,
    n_threads: usize,
    /// Threads that run a job which was abandoned.
    n_abandoned: usize,
    /// Threads that wait for work. A thread that was notified counts until it has taken its job, which stays in the
    /// queue until then, so that the two counts can be compared.
    ///
    /// Invariant: grows only while the queue is empty.
    n_idle: usize,
    /// Threads that were started and have not reached the queue yet.
    n_starting: usize,
    /// All threads that were ever started, for their numbers.
    n_started: usize,
    /// The running jobs, by the numbers of their threads.
    running: BTreeMap<usize, Running>,
    /// Set when no more jobs are accepted: threads end when the queue is empty.
    closed: bool,
    /// Set when the unfinished jobs have been reported.
    given_up: bool,
}

/// The counts of a pool's threads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// Threads that have not ended. The system may know a thread for a little longer.
    pub(crate) n_threads: usize,
    /// All that were ever started.
    pub(crate) n_started: usize,
}

struct Running {
    job: u64,
    label: Label,
    since: Instant,
    thread: ThreadId,
    /// Whether the job waits for the others to end, so that they must not wait for it.
    waits: bool,
    /// No handle to the job is left, and the end of the pool does not wait for it.
    abandoned: bool,
}

impl State {
    fn start(&mut self, number: usize, thread: ThreadId, job: u64, label: Label) {
        let since = Instant::now();
        let running = Running { job, label, since, thread, waits: false, abandoned: false };
        self.running.insert(number, running);
    }

    /// Returns the number of a thread that is one of the pool's.
    fn number_of(&self, thread: ThreadId) -> Option<usize> {
        let mut running = self.running.iter();
        running.find(|(_, running)| running.thread == thread).map(|(number, _)| *number)
    }

    fn set_waits(&mut self, number: usize, waits: bool) {
        if let Some(running) = self.running.get_mut(&number) {
            running.waits = waits;
        }
    }

    /// Counts the threads that the end of the pool does not wait for: those of abandoned jobs, and if a job of
    /// the pool waits, those that wait as well.
    fn n_ignored(&self, is_job: bool) -> usize {
        let is_ignored = |running: &&Running| running.abandoned || is_job && running.waits;
        self.running.values().filter(is_ignored).count()
    }

    /// Returns whether another thread may be started.
    fn may_start(&self, settings: &BlockingPoolBuilder) -> bool {
        self.n_counted(settings) < settings.max_threads
    }

    /// Counts the threads that count towards the maximum.
    fn n_counted(&self, settings: &BlockingPoolBuilder) -> usize {
        self.n_threads - self.n_abandoned.min(settings.max_abandoned)
    }

    /// Describes the running jobs that `which` selects, the longest running first.
    fn running(&self, which: impl Fn(usize, &Running) -> bool) -> Vec<RunningJob> {
        let running = self.running.iter().filter(|(number, running)| which(**number, running));
        let mut running: Vec<_> = running.map(|(_, running)| running).collect();
        running.sort_by_key(|running| running.since);
        let describe = |running: &Running| RunningJob {
            label: running.label.clone(),
            running_for: running.since.elapsed(),
        };
        running.into_iter().map(describe).collect()
    }
}

/// What happens to queued jobs when a pool is shut down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queued {
    /// They are cancelled.
    Cancel,
    /// They are run until the timeout elapses.
    Run,
}

impl Threads {
    pub(super) fn new(settings: BlockingPoolBuilder) -> Threads {
        Threads {
            settings,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    /// Queues a job, ensures that a thread will take it, and returns its number.
    ///
    /// # Errors
    /// If there is no thread and none can be started.
    pub(super) fn queue(this: &Arc<Threads>, job: Job) -> io::Result<u64> {
        let mut state = this.lock();
        let number = state.next_job;
        state.next_job += 1;
        if state.closed {
            drop(state);
            // Its handle reports that it was cancelled.
            quietly(|| drop(job));
            return Ok(number);
        }
        state.queue.insert(number, job);
        let n_queued = state.queue.len();
        if n_queued <= state.n_idle {
            // Without the lock, for which the thread that wakes would otherwise have to wait.
            drop(state);
            this.work.notify_one();
            return Ok(number);
        }
        // Beyond that, all idle threads were notified for the jobs before this one.
        if let Err(error) = Threads::start_if_needed(this, &mut state)
            && state.n_threads == 0
        {
            let job = state.queue.remove(&number);
            drop(state);
            quietly(|| drop(job));
            return Err(error);
        }
        // If there are threads, they will come to it.
        Ok(number)
    }

    /// Removes a job from the queue. If a thread runs it, the job is abandoned: it does not count towards the
    /// maximum of threads, within bounds, and the end of the pool does not wait for it.
    pub(super) fn abandon(this: &Arc<Threads>, job: u64) {
        let mut state = this.lock();
        if let Some(job) = state.queue.remove(&job) {
            drop(state);
            quietly(|| drop(job));
            return;
        }
        let mut running = state.running.values_mut();
        let Some(running) = running.find(|running| running.job == job) else { return };
        running.abandoned = true;
        state.n_abandoned += 1;
        // If that fails, the threads that there are take the jobs.
        Threads::start_if_needed(this, &mut state).ok();
        drop(state);
        this.ended.notify_all();
    }

    /// Starts a thread if there are more jobs than threads to take them, and another thread is allowed.
    fn start_if_needed(this: &Arc<Threads>, state: &mut State) -> io::Result<()> {
        let is_needed = state.queue.len() > state.n_idle + state.n_starting;
        if is_needed && state.may_start(&this.settings) {
            Threads::start(this, state)?;
        }
        Ok(())
    }

    fn start(this: &Arc<Threads>, state: &mut State) -> io::Result<()> {
        let number = state.n_started + 1;
        let name = format!("{}-{number}", this.settings.name);
        let threads = Arc::clone(this);
        spawn_thread(name, this.settings.stack_size, move || threads.serve(number))?;
        state.n_started = number;
        state.n_threads += 1;
        state.n_starting += 1;
        Ok(())
    }

    /// Runs a thread: takes jobs until it has been idle for a while.
    fn serve(&self, number: usize) {
        let thread = this_thread();
        let mut state = self.lock();
        state.n_starting -= 1;
        loop {
            if let Some((job, Job { label, work })) = state.queue.pop_first() {
                state.start(number, thread, job, label);
                drop(state);
                // The panic of the job goes to its handle. This catches the panic of the output's destructor.
                quietly(work);
                state = self.lock();
                let ran = state.running.remove(&number);
                if ran.is_some_and(|ran| ran.abandoned) {
                    state.n_abandoned -= 1;
                    if state.n_counted(&self.settings) > self.settings.max_threads {
                        // Another thread was started in place of this one.
                        break;
                    }
                }
                continue;
            }
            if state.closed {
                break;
            }
            state.n_idle += 1;
            let keep_alive = self.settings.keep_alive;
            state = wait_idle((&self.state, &self.work), state, keep_alive, |state| {
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

    /// Describes the running jobs.
    pub(super) fn running(&self) -> Vec<RunningJob> {
        self.lock().running(|_, _| true)
    }

    /// Reports whether a job is running or queued.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || !state.running.is_empty()
    }

    pub(super) fn n_threads(&self) -> usize {
        self.lock().n_threads
    }

    pub(super) fn census(&self) -> Census {
        let state = self.lock();
        Census { n_threads: state.n_threads, n_started: state.n_started }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Accepts no more jobs.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// Closes the pool, and waits up to `timeout` for the running jobs, and for the queued ones unless they are
    /// cancelled.
    ///
    /// The queue is empty when it returns, unless it is called by a job of the pool: it does not wait for that job, whose
    /// thread may have to run the queued ones.
    pub(super) fn shut_down(
        &self,
        timeout: Duration,
        queued: Queued,
    ) -> Result<(), UnfinishedJobs> {
        let deadline = Instant::now().checked_add(timeout);
        self.close();
        let mut n_cancelled = match queued {
            Queued::Cancel => self.cancel_queued(),
            Queued::Run => 0,
        };
        if self.wait_for_end(deadline) {
            return Ok(());
        }
        n_cancelled += self.cancel_queued();
        let mut state = self.lock();
        let own = state.number_of(this_thread());
        let running = state.running(|number, running| match own {
            _ if running.abandoned => false,
            Some(own) => number != own && !running.waits,
            None => true,
        });
        if running.is_empty() && (n_cancelled == 0 || queued == Queued::Cancel) {
            // The threads are about to end.
            return Ok(());
        }
        state.given_up = true;
        Err(UnfinishedJobs { pool: self.settings.name.clone(), running, n_cancelled })
    }

    /// Reports whether the unfinished jobs have been reported.
    pub(super) fn has_given_up(&self) -> bool {
        self.lock().given_up
    }

    /// Cancels the queued jobs, and returns their number.
    fn cancel_queued(&self) -> usize {
        let queue = mem::take(&mut self.lock().queue);
        let n_cancelled = queue.len();
        for job in queue.into_values() {
            quietly(|| drop(job));
        }
        n_cancelled
    }

    /// Waits until all threads have ended but those of abandoned jobs; false if the time is over before. On
    /// one of the threads it waits for those that do not wait for it.
    fn wait_for_end(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        let own = state.number_of(this_thread());
        if let Some(own) = own {
            state.set_waits(own, true);
        }
        let has_ended = loop {
            if state.n_threads == state.n_ignored(own.is_some()) {
                break true;
            }
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                break false;
            }
            state = wait_at_most(&self.ended, state, left);
        };
        if let Some(own) = own {
            state.set_waits(own, false);
        }
        has_ended
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::panic::Location;

    use loom::future::block_on;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    use super::*;
    use crate::JoinHandle;
    use crate::blocking::BlockingPool;
    use crate::join::packet::Packet;

    /// One thread that ends as soon as it has nothing to do, and an end without a bound.
    fn pool() -> BlockingPoolBuilder {
        let settings = BlockingPool::builder().max_threads(1);
        settings.keep_alive(Duration::ZERO).shutdown_timeout(Duration::MAX)
    }

    fn job(work: impl FnOnce() + Send + 'static) -> (Job, JoinHandle<()>) {
        let (packet, sender) = Packet::of_job();
        let label = Label { name: None, spawned_at: Location::caller() };
        (Job::new(label, work, sender, None, ()), JoinHandle::of_packet(packet))
    }

    fn count(n_runs: &Arc<AtomicUsize>) -> impl FnOnce() + Send + use<> {
        let n_runs = Arc::clone(n_runs);
        move || {
            n_runs.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn loom_a_job_against_an_idle_thread_that_goes_is_run() {
        loom::model(|| {
            let (threads, n_runs) = (Arc::new(Threads::new(pool())), Arc::new(AtomicUsize::new(0)));
            for _ in 0..2 {
                Threads::queue(&threads, job(count(&n_runs)).0).unwrap();
            }
            // Until the thread has ended by itself, for want of work.
            assert!(threads.wait_for_end(None));
            assert_eq!(n_runs.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn loom_a_job_for_an_idle_thread_that_waits_indefinitely_is_announced() {
        loom::model(|| {
            let pool = pool().keep_alive(Duration::MAX).build();
            for _ in 0..2 {
                block_on(pool.spawn(|| ())).unwrap();
            }
        });
    }

    #[test]
    fn loom_a_job_beside_one_that_was_announced_is_run_too() {
        loom::model(|| {
            let pool = pool().max_threads(2).keep_alive(Duration::MAX).build();
            block_on(pool.spawn(|| ())).unwrap();
            // One for the thread that is idle, one for a thread that has to be started.
            let n_runs = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 {
                drop(pool.spawn(count(&n_runs)));
            }
            pool.shutdown(Duration::MAX).unwrap();
            assert_eq!(n_runs.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn loom_a_job_against_the_end_of_the_pool_is_run_or_cancelled() {
        loom::model(|| {
            let (pool, n_runs) = (pool().build(), Arc::new(AtomicUsize::new(0)));
            let job = pool.spawn(count(&n_runs));
            drop(pool);
            let outcome = block_on(job);
            assert_eq!(n_runs.load(Ordering::SeqCst), usize::from(outcome.is_ok()));
        });
    }

    #[test]
    fn loom_a_spawn_against_a_shutdown_resolves() {
        loom::model(|| {
            let (pool, n_runs) = (pool().build(), Arc::new(AtomicUsize::new(0)));
            let (theirs, runs) = (pool.clone(), count(&n_runs));
            let thread = thread::spawn(move || block_on(theirs.spawn(runs)).is_ok());
            pool.shutdown_now(Duration::MAX).unwrap();
            assert!(!pool.is_busy());
            let ran = thread.join().unwrap();
            assert_eq!(n_runs.load(Ordering::SeqCst), usize::from(ran));
        });
    }

    #[test]
    fn loom_a_graceful_end_runs_what_was_spawned_before() {
        loom::model(|| {
            let (pool, n_runs) = (pool().build(), Arc::new(AtomicUsize::new(0)));
            let jobs = [(); 2].map(|()| pool.spawn(count(&n_runs)));
            pool.shutdown(Duration::MAX).unwrap();
            assert_eq!(n_runs.load(Ordering::SeqCst), 2);
            jobs.into_iter().for_each(|job| block_on(job).unwrap());
        });
    }

    #[test]
    fn loom_two_threads_that_shut_down_both_return() {
        loom::model(|| {
            let pool = pool().build();
            let job = pool.spawn(|| ());
            let theirs = pool.clone();
            let thread = thread::spawn(move || theirs.shutdown(Duration::MAX).unwrap());
            pool.shutdown_now(Duration::MAX).unwrap();
            thread.join().unwrap();
            // Run or cancelled, but not forgotten.
            drop(block_on(job));
        });
    }

    #[test]
    fn loom_a_job_that_has_the_last_handle_does_not_wait_for_itself() {
        loom::model(|| {
            let pool = pool().build();
            let theirs = pool.clone();
            let job = pool.spawn(move || drop(theirs));
            drop(pool);
            // The one of the two that is later ends the pool.
            drop(block_on(job));
        });
    }

    #[test]
    fn loom_two_jobs_that_shut_down_do_not_wait_for_each_other() {
        loom::model(|| {
            let pool = pool().max_threads(2).build();
            let jobs = [(); 2].map(|()| {
                let pool = pool.clone();
                pool.clone().spawn(move || pool.shutdown(Duration::MAX).unwrap())
            });
            pool.shutdown(Duration::MAX).unwrap();
            // The second was spawned too late if the first had closed the pool by then.
            jobs.into_iter().for_each(|job| drop(block_on(job)));
        });
    }
}
