//! Waiting for some of many.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::event_loop::budget::{has_budget, poll_proceed};
use crate::inspect::lost_panic::given;
use crate::inspect::notes::{Notes, note};
use crate::raw::waker::{clone_of, drop_of, wake_of};
use crate::steps::step;
use crate::{JoinError, JoinHandle, timeout};

/// Waits for some of many tasks, for `limit` at most if there is one.
///
/// Nothing is lost: each task is either in `done` with its output or in `pending` with its
/// handle. No task is ended.
///
/// # Cancel safety
/// The handles are dropped, which detaches their tasks.
///
/// # References
/// Python's `asyncio.wait`.
///
/// # Examples
/// ```
/// use std::future::pending;
/// use polyloop::spawn;
/// use polyloop::future::{Until, wait};
///
/// # polyloop::run(async {
/// let tasks = vec![spawn(pending()), spawn(async { 7 })];
/// let waited = wait(tasks, Until::First, None).await;
/// assert_eq!(waited.done[0].0, 1);
/// assert_eq!(waited.pending[0].0, 0);
/// # }).unwrap();
/// ```
pub async fn wait<T: 'static>(
    tasks: impl IntoIterator<Item = JoinHandle<T>>,
    until: Until,
    limit: Option<Duration>,
) -> Waited<T> {
    let is_enough = |output: &Result<T, JoinError>| match until {
        Until::First => true,
        Until::FirstFailure => output.is_err(),
        Until::All => false,
    };
    wait_until(tasks, is_enough, limit).await
}

/// Waits for some of many tasks, until `is_enough` says so of an output or all are done, for
/// `limit` at most if there is one.
///
/// Nothing is lost, as with [`wait`], and no task is ended. Other tasks that are done at the same
/// time are in `done` as well.
///
/// # Panics
/// If `is_enough` does.
///
/// # Cancel safety
/// The handles are dropped, which detaches their tasks.
///
/// # References
/// Python's `asyncio.wait(return_when=FIRST_EXCEPTION)`, where errors that are returned count.
///
/// # Examples
/// ```
/// use polyloop::spawn;
/// use polyloop::future::wait_until;
///
/// # polyloop::run(async {
/// let tasks = ["1", "x", "2"].map(|text| spawn(async { text.parse::<i32>() }));
/// let is_failure = |output: &Result<Result<_, _>, _>| !matches!(output, Ok(Ok(_)));
/// let waited = wait_until(tasks, is_failure, None).await;
/// assert!(waited.done.iter().any(|(position, _)| *position == 1));
/// # }).unwrap();
/// ```
pub async fn wait_until<T: 'static>(
    tasks: impl IntoIterator<Item = JoinHandle<T>>,
    mut is_enough: impl FnMut(&Result<T, JoinError>) -> bool,
    limit: Option<Duration>,
) -> Waited<T> {
    let mut waiting = Waiting::new(tasks);
    let enough = poll_fn(|cx| waiting.poll(cx, &mut is_enough));
    match limit {
        None => enough.await,
        // Late is no error here: what is not done is pending.
        Some(limit) => drop(timeout(limit, enough).await),
    }
    waiting.into_waited()
}

/// Says when [`wait`] has waited long enough.
///
/// # Examples
/// ```
/// use polyloop::spawn;
/// use polyloop::future::{Until, wait};
///
/// # polyloop::run(async {
/// let waited = wait([1, 2].map(|i| spawn(async move { i })), Until::All, None).await;
/// assert!(waited.pending.is_empty());
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When one task is done.
    First,
    /// When one task has failed (it panicked or was aborted), or all are done. For tasks that
    /// return errors there is [`wait_until`].
    FirstFailure,
    /// When all are done.
    All,
}

/// Sorts tasks into those that are done and those that are not. Made by [`wait`] and
/// [`wait_until`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{sleep, spawn};
/// use polyloop::future::{Until, wait};
///
/// # polyloop::run(async {
/// let tasks = [1, 60_000].map(|ms| spawn(sleep(Duration::from_millis(ms))));
/// let waited = wait(tasks, Until::First, None).await;
/// for (_, task) in waited.pending {
///     task.abort();
/// }
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the handles of the tasks are in it"]
pub struct Waited<T> {
    /// The outputs that came, each with the position of its handle, in the order of positions.
    pub done: Vec<(usize, Result<T, JoinError>)>,
    /// The handles of the others, with their positions.
    pub pending: Vec<(usize, JoinHandle<T>)>,
}

/// The tasks that [`wait`] waits for.
///
/// Each handle has a waker of its own, so that the end of one task costs one look, and not one at every
/// handle.
struct Waiting<T> {
    tasks: Vec<Member<T>>,
    n_pending: usize,
    /// The positions of the handles to be looked at.
    due: VecDeque<usize>,
    woken: Arc<Woken>,
}

enum Member<T> {
    Pending(JoinHandle<T>, Waker),
    Done(Result<T, JoinError>),
}

impl<T: 'static> Waiting<T> {
    fn new(tasks: impl IntoIterator<Item = JoinHandle<T>>) -> Waiting<T> {
        let woken = Arc::new(Woken::default());
        let bell = |position| Waker::from(Arc::new(Bell { position, woken: Arc::clone(&woken) }));
        let tasks = tasks.into_iter().enumerate();
        let tasks: Vec<_> =
            tasks.map(|(position, task)| Member::Pending(task, bell(position))).collect();
        Waiting { n_pending: tasks.len(), due: (0..tasks.len()).collect(), tasks, woken }
    }

    /// Looks at the handles that are due; ready when their outputs are enough.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        is_enough: &mut impl FnMut(&Result<T, JoinError>) -> bool,
    ) -> Poll<()> {
        self.woken.take(cx, &mut self.due);
        let mut has_enough = false;
        // A look takes from the budget. Those that it does not allow stay due: looking at all of them in
        // every poll would make many tasks cost their square.
        while has_budget()
            && let Some(position) = self.due.pop_front()
        {
            step();
            let Some(member) = self.tasks.get_mut(position) else { continue };
            let Member::Pending(task, bell) = member else { continue };
            if let Poll::Ready(output) = task.poll_outcome(&mut Context::from_waker(bell)) {
                self.n_pending -= 1;
                has_enough |= is_enough(&output);
                *member = Member::Done(output);
            }
        }
        if has_enough || self.n_pending == 0 {
            // Of no tasks at all there was nothing to look at.
            return if self.tasks.is_empty() { poll_proceed(cx) } else { Poll::Ready(()) };
        }
        if self.due.is_empty() {
            note(Notes::CHILDREN);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn into_waited(self) -> Waited<T> {
        let mut done = Vec::with_capacity(self.tasks.len() - self.n_pending);
        let mut pending = Vec::with_capacity(self.n_pending);
        for (position, member) in self.tasks.into_iter().enumerate() {
            match member {
                Member::Done(output) => done.push((position, given(output))),
                Member::Pending(task, _) => pending.push((position, task)),
            }
        }
        Waited { done, pending }
    }
}

/// Collects which handles are to be looked at.
#[derive(Default)]
struct Woken {
    state: Mutex<WokenState>,
}

#[derive(Default)]
struct WokenState {
    positions: Vec<usize>,
    /// The task that waits.
    waiter: Option<Waker>,
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, WokenState> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what has been collected to `due`, and has `cx` woken when there is more.
    fn take(&self, cx: &Context<'_>, due: &mut VecDeque<usize>) {
        let waiter = Some(clone_of(cx.waker()));
        let mut state = self.lock();
        let replaced = mem::replace(&mut state.waiter, waiter);
        due.extend(state.positions.drain(..));
        drop(state);
        // Outside the lock: it may be foreign.
        drop_of(replaced);
    }
}

/// Wakes whoever waits, and says which task it was.
struct Bell {
    position: usize,
    woken: Arc<Woken>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut state = self.woken.lock();
        state.positions.push(self.position);
        let waiter = state.waiter.take();
        drop(state);
        if let Some(waiter) = waiter {
            wake_of(waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::count_steps;
    use crate::{run, spawn, yield_now};

    /// Counts how often a handle is looked at until `n_tasks` are done, some at once and some later.
    fn looks_at(n_tasks: usize) -> u64 {
        count_steps(|| {
            run(async {
                let work = |i: usize| async move {
                    for _ in 0..i % 3 {
                        yield_now().await;
                    }
                    i
                };
                let tasks: Vec<_> = (0..n_tasks).map(|i| spawn(work(i))).collect();
                let waited = wait(tasks, Until::All, None).await;
                let outputs = waited.done.into_iter().map(|(position, output)| {
                    let output = output.unwrap();
                    assert_eq!(position, output);
                    output
                });
                assert!(outputs.eq(0..n_tasks));
                assert!(waited.pending.is_empty());
            })
            .unwrap();
        })
    }

    #[test]
    fn a_task_costs_as_many_looks_among_100_000_as_among_100() {
        let few = looks_at(100);
        assert!(few <= 200, "{few} looks at 100 tasks");
        let many = looks_at(100_000);
        assert!(many <= 200_000, "{many} looks at 100,000 tasks");
    }
}
