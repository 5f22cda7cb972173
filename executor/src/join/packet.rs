//! A packet: carries one result from one thread to another.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::task::{Poll, Waker};

use polyloop_reactor::Token;

use crate::catch::quietly;
use crate::inspect::lost_panic::Origin;
use crate::join::deep_drop::drop_deep;
use crate::join::join_error::JoinError;
use crate::sync::{Arc, Mutex, MutexGuard};

/// Carries the outcome of work on a blocking thread or on another loop.
///
/// ```text
///  [ Waiting ] ── set ──▶ [ Done ] ── poll_take ──▶ [ Taken ]
/// ```
pub(crate) struct Packet<T> {
    state: Mutex<State<T>>,
    /// Drops an outcome that was not taken with [`drop_deep`], because it may own the handle of another.
    ///
    /// A pointer, because the destructor does not know that `T` is `'static`.
    drop_outcome: fn(Result<T, JoinError>),
}

struct State<T> {
    outcome: Outcome<T>,
    waker: Option<Waker>,
    /// The task that does the work, once there is one.
    task: Option<Token>,
    /// The name for that task.
    name: Option<String>,
    aborted: bool,
    /// The work is a queued job that no thread has started.
    queued: bool,
}

/// A handle's requests before the task existed.
pub(crate) struct Requests {
    pub(crate) name: Option<String>,
    pub(crate) abort: bool,
}

enum Outcome<T> {
    Waiting,
    Done(Result<T, JoinError>),
    Taken,
}

impl<T: 'static> Packet<T> {
    /// Creates a packet and its sender.
    pub(crate) fn new() -> (Arc<Packet<T>>, Sender<T>) {
        Packet::make(false)
    }

    /// Creates the packet of a job to be queued: until the job [starts](Sender::begin), an abort completes the packet at
    /// once.
    pub(crate) fn of_job() -> (Arc<Packet<T>>, Sender<T>) {
        Packet::make(true)
    }

    fn make(queued: bool) -> (Arc<Packet<T>>, Sender<T>) {
        let state = State {
            outcome: Outcome::Waiting,
            waker: None,
            task: None,
            name: None,
            aborted: false,
            queued,
        };
        let packet = Arc::new(Packet { state: Mutex::new(state), drop_outcome: drop_deep });
        (Arc::clone(&packet), Sender { packet: Some(packet) })
    }
}

impl<T> Packet<T> {
    /// Takes the outcome, or registers the waker to be woken by it.
    ///
    /// The caller drops what is in `waker` afterwards, because no foreign code may run under the lock.
    pub(crate) fn poll_take(&self, waker: &mut Option<Waker>) -> Poll<Result<T, JoinError>> {
        let mut state = self.lock();
        match mem::replace(&mut state.outcome, Outcome::Taken) {
            Outcome::Done(outcome) => Poll::Ready(outcome),
            Outcome::Waiting => {
                state.outcome = Outcome::Waiting;
                mem::swap(&mut state.waker, waker);
                Poll::Pending
            }
            // A handle drops its packet when it has taken the outcome.
            Outcome::Taken => Poll::Ready(Err(JoinError::cancelled())),
        }
    }

    /// Requests that the work be dropped: before it starts, or between two polls.
    ///
    /// Returns the task that does the work, if there is one already, for the caller to abort.
    pub(crate) fn abort(&self) -> Option<Token> {
        let mut state = self.lock();
        state.aborted = true;
        let (task, queued) = (state.task, state.queued);
        drop(state);
        if queued {
            self.set(Err(JoinError::cancelled()));
        }
        task
    }

    /// Records the task that does the work, so that an abort finds it.
    ///
    /// Returns the earlier requests, for the caller to execute.
    pub(crate) fn set_task(&self, task: Token) -> Requests {
        let mut state = self.lock();
        state.task = Some(task);
        Requests { name: state.name.take(), abort: state.aborted }
    }

    /// Stores the name for the task that does the work. If the task exists, it is returned with the name, for the caller to
    /// name it.
    pub(crate) fn set_name(&self, name: String) -> Option<(Token, String)> {
        let mut state = self.lock();
        match state.task {
            Some(task) => Some((task, name)),
            None => {
                state.name = Some(name);
                None
            }
        }
    }

    /// Returns the task that does the work, if it exists.
    pub(crate) fn task(&self) -> Option<Token> {
        self.lock().task
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(self.lock().outcome, Outcome::Waiting)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the outcome. Only the first one counts.
    fn set(&self, outcome: Result<T, JoinError>) {
        let mut state = self.lock();
        if !matches!(state.outcome, Outcome::Waiting) {
            drop(state);
            quietly(|| drop(outcome));
            return;
        }
        state.outcome = Outcome::Done(outcome);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            quietly(|| waker.wake());
        }
    }
}

impl<T> Drop for Packet<T> {
    fn drop(&mut self) {
        // An outcome that is never taken is dropped with the packet, where a panic of its destructor is caught.
        let mut state = self.lock();
        let outcome = mem::replace(&mut state.outcome, Outcome::Taken);
        let waker = state.waker.take();
        drop(state);
        if let Outcome::Done(outcome) = outcome {
            (self.drop_outcome)(outcome);
        }
        quietly(|| drop(waker));
    }
}

/// Fills a packet once. If it is dropped before, the outcome is that the work was cancelled.
pub(crate) struct Sender<T> {
    packet: Option<Arc<Packet<T>>>,
}

impl<T> Sender<T> {
    /// Records that the job starts, after which an abort has no effect. Returns `false` if it was aborted before.
    pub(crate) fn begin(&self) -> bool {
        let Some(packet) = &self.packet else { return false };
        let mut state = packet.lock();
        state.queued = false;
        !state.aborted
    }

    /// Executes the work and fills the packet with its result, or with its panic from `origin`.
    pub(crate) fn run(self, origin: Option<Box<Origin>>, work: impl FnOnce() -> T) {
        let outcome = catch_unwind(AssertUnwindSafe(work));
        let origin = origin.map(|origin| *origin);
        self.send(outcome.map_err(|payload| JoinError::panicked(payload, origin)));
    }

    pub(crate) fn send(mut self, outcome: Result<T, JoinError>) {
        if let Some(packet) = self.packet.take() {
            packet.set(outcome);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if let Some(packet) = self.packet.take() {
            packet.set(Err(JoinError::cancelled()));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn take<T>(packet: &Packet<T>) -> Poll<Result<T, JoinError>> {
        packet.poll_take(&mut Some(Waker::noop().clone()))
    }

    #[test]
    fn a_dropped_sender_means_cancelled() {
        let (packet, sender) = Packet::<()>::new();
        assert!(take(&packet).is_pending());
        drop(sender);
        let Poll::Ready(Err(error)) = take(&packet) else { panic!("still pending") };
        assert!(error.is_cancelled());
    }

    #[test]
    fn a_panic_crosses_over() {
        let (packet, sender) = Packet::<()>::new();
        sender.run(None, || panic!("far away"));
        let Poll::Ready(Err(error)) = take(&packet) else { panic!("still pending") };
        assert_eq!(error.to_string(), "task panicked: far away");
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc as StdArc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    async fn take<T>(packet: Arc<Packet<T>>) -> Result<T, JoinError> {
        std::future::poll_fn(|cx| packet.poll_take(&mut Some(cx.waker().clone()))).await
    }

    #[test]
    fn loom_an_outcome_against_a_poll_is_not_lost() {
        loom::model(|| {
            let (packet, sender) = Packet::new();
            let thread = thread::spawn(move || sender.send(Ok(7)));
            assert_eq!(block_on(take(packet)).unwrap(), 7);
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_a_sender_that_goes_against_a_poll_says_cancelled() {
        loom::model(|| {
            let (packet, sender) = Packet::<()>::new();
            let thread = thread::spawn(move || drop(sender));
            assert!(block_on(take(packet)).unwrap_err().is_cancelled());
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_an_outcome_against_a_handle_that_goes_is_dropped_once() {
        struct Count(StdArc<AtomicUsize>);
        impl Drop for Count {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        loom::model(|| {
            let n_drops = StdArc::new(AtomicUsize::new(0));
            let (packet, sender) = Packet::new();
            let output = Count(StdArc::clone(&n_drops));
            let thread = thread::spawn(move || sender.send(Ok(output)));
            drop(packet);
            thread.join().unwrap();
            assert_eq!(n_drops.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn loom_an_abort_against_the_start_of_the_work_cancels_it_or_is_too_late() {
        loom::model(|| {
            let (packet, sender) = Packet::of_job();
            let thread = thread::spawn(move || {
                if sender.begin() {
                    sender.run(None, || 7);
                }
            });
            packet.abort();
            match block_on(take(packet)) {
                Ok(output) => assert_eq!(output, 7),
                Err(error) => assert!(error.is_cancelled()),
            }
            thread.join().unwrap();
        });
    }
}
