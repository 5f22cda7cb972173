//! Waiting for some of several tasks.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::inspect::notes::Notes;
use crate::join::join_error::given;
use crate::running::note;
use crate::running::{has_budget, poll_proceed};
use crate::steps::step;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};
use crate::{JoinError, JoinHandle};

/// Waits for some of several tasks, at most for `timeout` if it is given.
///
/// Each task is returned either in `done`, with its output, or in `pending`, with its handle. No task is aborted,
/// and no output is lost.
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
    timeout: Option<Duration>,
) -> Waited<T> {
    let goes_on = |output: &Result<T, JoinError>| match until {
        Until::First => false,
        Until::FirstFailure => output.is_ok(),
        Until::All => true,
    };
    wait_while(tasks, goes_on, timeout).await
}

/// Waits for several tasks while `condition` returns `true` for their outputs, at most for `timeout` if it is given.
///
/// The wait ends when all tasks are done, or when `condition` returns `false` for an output. Tasks that end at the
/// same time as that one are in `done` as well. As with [`wait`], no task is aborted, and no output is lost.
///
/// # Panics
/// Panics if `condition` panics.
///
/// # Cancel safety
/// The handles are dropped, which detaches their tasks.
///
/// # References
/// Python's `asyncio.wait(return_when=FIRST_EXCEPTION)`, where the errors that tasks return count as well.
///
/// # Examples
/// ```
/// use polyloop::spawn;
/// use polyloop::future::wait_while;
///
/// # polyloop::run(async {
/// let tasks = ["1", "x", "2"].map(|text| spawn(async { text.parse::<i32>() }));
/// let waited = wait_while(tasks, |output| matches!(output, Ok(Ok(_))), None).await;
/// assert!(waited.done.iter().any(|(position, _)| *position == 1));
/// # }).unwrap();
/// ```
pub async fn wait_while<T: 'static>(
    tasks: impl IntoIterator<Item = JoinHandle<T>>,
    mut condition: impl FnMut(&Result<T, JoinError>) -> bool,
    timeout: Option<Duration>,
) -> Waited<T> {
    let mut waiting = Waiting::new(tasks);
    let enough = poll_fn(|cx| waiting.poll(cx, &mut condition));
    match timeout {
        None => enough.await,
        // Exceeding the timeout is no error: tasks that are not done are pending.
        Some(duration) => drop(crate::timeout(duration, enough).await),
    }
    waiting.into_waited()
}

/// When [`wait`] stops waiting.
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
    /// When one task has panicked or was aborted, or when all are done. For errors that tasks return, use
    /// [`wait_while`].
    FirstFailure,
    /// When all tasks are done.
    All,
}

/// The tasks that are done, and those that are not. Returned by [`wait`] and [`wait_while`].
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
#[non_exhaustive]
#[must_use = "it holds the handles of the tasks"]
pub struct Waited<T> {
    /// The outputs of the tasks that are done, each with the position of its handle, in ascending order.
    pub done: Vec<(usize, Result<T, JoinError>)>,
    /// The handles of the other tasks, with their positions, in ascending order.
    pub pending: Vec<(usize, JoinHandle<T>)>,
}

/// The tasks that [`wait`] waits for.
///
/// Each handle is polled with a separate waker, so that the end of one task costs one poll instead of a poll of
/// every handle.
struct Waiting<T> {
    tasks: Vec<Member<T>>,
    n_pending: usize,
    /// The positions of the handles to poll.
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
        let entry_waker =
            |position| Waker::from(Arc::new(EntryWaker { position, woken: Arc::clone(&woken) }));
        let tasks = tasks.into_iter().enumerate();
        let tasks: Vec<_> =
            tasks.map(|(position, task)| Member::Pending(task, entry_waker(position))).collect();
        Waiting { n_pending: tasks.len(), due: (0..tasks.len()).collect(), tasks, woken }
    }

    /// Polls the handles that are due; ready when all are done or `condition` has returned `false`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        condition: &mut impl FnMut(&Result<T, JoinError>) -> bool,
    ) -> Poll<()> {
        self.woken.take(cx, &mut self.due);
        let mut has_enough = false;
        // A poll takes from the budget. Handles that it does not allow to poll stay due: polling all of them each
        // time would cost quadratic time.
        while has_budget()
            && let Some(position) = self.due.pop_front()
        {
            step();
            let Some(member) = self.tasks.get_mut(position) else { continue };
            let Member::Pending(task, waker) = member else { continue };
            if let Poll::Ready(output) = task.poll_outcome(&mut Context::from_waker(waker)) {
                self.n_pending -= 1;
                has_enough |= !condition(&output);
                *member = Member::Done(output);
            }
        }
        if has_enough || self.n_pending == 0 {
            // Without tasks, no poll has taken from the budget.
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

/// Collects the positions of handles whose wakers were woken.
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

    /// Moves the collected positions to `due`, and registers `cx` to be woken by the next one.
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

/// The waker of one handle: notes its position, and wakes the task that waits.
struct EntryWaker {
    position: usize,
    woken: Arc<Woken>,
}

impl Wake for EntryWaker {
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

    /// Counts how often a handle is polled until `n_tasks` are done, some at once and some later.
    fn polls_of(n_tasks: usize) -> u64 {
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
    fn a_task_costs_as_many_polls_among_100_000_as_among_100() {
        let few = polls_of(100);
        assert!(few <= 200, "{few} polls of 100 tasks");
        let many = polls_of(100_000);
        assert!(many <= 200_000, "{many} polls of 100,000 tasks");
    }
}
