//! Structure: children end before their group does.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::cancel_scope::{DeadlineTimer, outlast_enclosing};
use super::scope_node::{EndOnDrop, ScopeNode};
use super::{CancelScope, Cancelled};
use crate::combine::JoinSet;
use crate::combine::join_set::poll_arrival_in;
use crate::combine::slab::Slab;
use crate::combine::turns::Turns;
use crate::event_loop::EventLoop;
use crate::raw::waker::current;
use crate::runtime::with_room;
use crate::tasks::stage::quietly;
use crate::{JoinError, now};

/// Runs `body`, which may spawn children into the group it is given, and returns when it and all
/// of them have ended.
///
/// The first failure, of `body` or of a child, ends the rest: their futures are dropped, those in a
/// [shielded](crate::shielded) section as soon as that has ended. A failure is seen while `body` is busy,
/// if only that awaits something now and then. All failures are kept. If the
/// future of the scope itself is dropped, by a timeout or a race, its children are dropped with
/// it: none is left running behind.
///
/// The group has a [`CancelScope`](TaskGroup::cancel_scope), by which it can be cancelled or given
/// a deadline; [`timeout_scope`] begins with one.
///
/// # Errors
/// Every failure: the errors that were returned, the panics, and the cancellation of the group if
/// that cut a member short.
///
/// # Panics
/// Outside a loop. If `body` does; the children have then been dropped.
///
/// # Cancel safety
/// `body` and the children are dropped, sections that are shielded as well.
///
/// # References
/// Python's `asyncio.TaskGroup`, trio's nurseries.
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
/// use polyloop::scope::scope;
///
/// # polyloop::run(async {
/// let sum = scope(async |group: &TaskGroup<std::num::ParseIntError>| {
///     let total = std::rc::Rc::new(std::cell::Cell::new(0));
///     for text in ["1", "2", "3"] {
///         let total = total.clone();
///         group.spawn(async move {
///             total.set(total.get() + text.parse::<i32>()?);
///             Ok(())
///         });
///     }
///     Ok(total)
/// });
/// assert_eq!(sum.await.unwrap().get(), 6);
/// # }).unwrap();
/// ```
pub async fn scope<T, E: 'static>(
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
) -> Result<T, GroupError<E>> {
    run_group(None, body).await
}

/// Runs `body` as [`scope`] does, for `duration` at most, from now on.
///
/// At the deadline `body` and the children are dropped, those in a [shielded](crate::shielded)
/// section as soon as that has ended. The body can move the deadline, through
/// [`TaskGroup::cancel_scope`].
///
/// # Errors
/// As [`scope`]; [`Failure::Cancelled`] is among the failures if the deadline cut a member short.
///
/// # Panics
/// Outside a loop. If `body` does; the children have then been dropped.
///
/// # Cancel safety
/// `body` and the children are dropped, sections that are shielded as well.
///
/// # References
/// trio's `fail_after` around a nursery.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::TaskGroup;
/// use polyloop::scope::timeout_scope;
///
/// # polyloop::run(async {
/// let outcome = timeout_scope(Duration::from_millis(1), async |group: &TaskGroup<()>| {
///     group.spawn(std::future::pending());
///     Ok(())
/// });
/// assert!(outcome.await.unwrap_err().is_elapsed());
/// # }).unwrap();
/// ```
pub fn timeout_scope<T, E: 'static>(
    duration: Duration,
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
) -> impl Future<Output = Result<T, GroupError<E>>> {
    run_group(now().checked_add(duration), body)
}

async fn run_group<T, E: 'static>(
    deadline: Option<Instant>,
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
) -> Result<T, GroupError<E>> {
    let group = TaskGroup::new(deadline);
    let node = &group.scope.node;
    let _end = EndOnDrop(Rc::clone(node));
    let mut body = pin!(Some(body(&group)));
    let body_node = node.inner();
    let mut timer = DeadlineTimer::default();
    let mut value = None;
    let mut failures = Failures::default();
    let mut was_doomed = false;
    let mut turns = Turns::new();
    poll_fn(|cx| {
        node.attach();
        // In turns, because either the body or the ends of many children could spend the budget.
        let _: Poll<()> = turns.poll(2, 0, cx, |turn, cx| {
            if turn == 0
                && let Some(running) = body.as_mut().as_pin_mut()
                && let Poll::Ready(outcome) = body_node.poll(cx, |cx| running.poll(cx))
            {
                body.set(None);
                match outcome {
                    Ok(Ok(output)) => value = Some(output),
                    Ok(Err(error)) => failures.add(Failure::Error(error), node),
                    Err(why) => failures.add_cancelled(why),
                }
            }
            while turn == 1
                && let Some(outcome) = group.poll_child(cx)
            {
                match outcome {
                    Ok(Ok(Ok(()))) => {}
                    Ok(Ok(Err(error))) => failures.add(Failure::Error(error), node),
                    Ok(Err(why)) => failures.add_cancelled(why),
                    // The loop is coming down: nothing else aborts a child.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => failures.add(Failure::Panicked(error), node),
                }
            }
            Poll::Pending
        });
        timer.poll(node, cx);
        let is_doomed = node.doom().is_some();
        if is_doomed && !was_doomed {
            group.wake_members();
            match body_node.must_end() {
                Some(why) if body.is_some() => {
                    body.set(None);
                    failures.add_cancelled(why);
                }
                _ => body_node.wake(),
            }
        }
        was_doomed = is_doomed;
        if body.is_none() && group.is_empty() { Poll::Ready(()) } else { node.wait(cx) }
    })
    .await;
    if failures.is_explained && node.cancelled().is_none() {
        outlast_enclosing(node).await;
    }
    match value {
        Some(value) if failures.list.is_empty() => Ok(value),
        _ => Err(failures.into_error()),
    }
}

/// Takes in the children of a [`scope`].
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
/// use polyloop::scope::scope;
///
/// # polyloop::run(async {
/// scope(async |group: &TaskGroup<()>| {
///     group.spawn(async { Ok(()) });
///     assert_eq!(group.len(), 1);
///     Ok(())
/// })
/// .await
/// .unwrap();
/// # }).unwrap();
/// ```
pub struct TaskGroup<E> {
    scope: CancelScope,
    children: RefCell<JoinSet<Outcome<E>>>,
    members: Rc<Members>,
}

/// What the children of a group run in, those that have not ended.
#[derive(Default)]
struct Members(RefCell<Slab<Rc<ScopeNode>>>);

/// One child's scope, which ends and leaves the list of members when the child does.
struct Member {
    node: Rc<ScopeNode>,
    members: Rc<Members>,
    place: usize,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.node.end();
        let member = self.members.0.borrow_mut().remove(self.place);
        drop(member);
    }
}

/// What a child comes to, if it does not panic: its own result, or why it was cut short.
type Outcome<E> = Result<Result<(), E>, Cancelled>;

impl<E: 'static> TaskGroup<E> {
    fn new(deadline: Option<Instant>) -> TaskGroup<E> {
        let (children, members) = (RefCell::new(JoinSet::new()), Rc::default());
        TaskGroup { scope: CancelScope::new(deadline), children, members }
    }

    /// Starts a child.
    ///
    /// Its value goes where it puts it: into a cell or a channel that it shares with the body. In a
    /// group that is cancelled it is dropped before it begins.
    ///
    /// # Panics
    /// Outside a loop.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use polyloop::TaskGroup;
    /// use polyloop::scope::scope;
    ///
    /// # polyloop::run(async {
    /// let answer = scope(async |group: &TaskGroup<()>| {
    ///     let answer = Rc::new(Cell::new(0));
    ///     let place = answer.clone();
    ///     group.spawn(async move {
    ///         place.set(42);
    ///         Ok(())
    ///     });
    ///     Ok(answer)
    /// });
    /// assert_eq!(answer.await.unwrap().get(), 42);
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, child: F)
    where
        F: Future<Output = Result<(), E>> + 'static,
    {
        let spawned_at = Location::caller();
        if current(EventLoop::is_closing) == Some(true) {
            // It would be cancelled at once, within the borrow.
            return quietly(|| drop(child));
        }
        // What is refused is foreign, and dropped outside the borrow.
        let child = with_room(spawned_at, child);
        let node = self.scope.node.inner();
        let place = self.members.0.borrow_mut().insert(Rc::clone(&node));
        let member = Member { node, members: Rc::clone(&self.members), place };
        let poll = move |child: Pin<&mut F>, cx: &mut Context<'_>| {
            member.node.poll(cx, |cx| child.poll(cx))
        };
        self.children.borrow_mut().spawn_polled(spawned_at, child, poll);
        // The scope has to watch a child that is new.
        self.scope.node.wake();
    }

    /// Returns the number of children that have not ended.
    pub fn len(&self) -> usize {
        self.children.borrow().len()
    }

    /// Reports whether there is no child.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the cancel scope of the group: its deadline, and the way to cancel it.
    ///
    /// # References
    /// trio's `Nursery.cancel_scope`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::TaskGroup;
    /// use polyloop::scope::scope;
    ///
    /// # polyloop::run(async {
    /// let outcome = scope(async |group: &TaskGroup<&str>| {
    ///     group.spawn(std::future::pending());
    ///     // Enough of it: the child is dropped.
    ///     group.cancel_scope().cancel();
    ///     Ok(())
    /// });
    /// assert_eq!(outcome.await.unwrap_err().to_string(), "scope was cancelled");
    /// # }).unwrap();
    /// ```
    pub fn cancel_scope(&self) -> &CancelScope {
        &self.scope
    }

    /// Has the children look whether they are to end.
    fn wake_members(&self) {
        let members: Vec<_> = self.members.0.borrow().values().cloned().collect();
        for member in members {
            member.wake();
        }
    }

    /// Takes the outcome of a child that has ended, if there is one.
    fn poll_child(&self, cx: &mut Context<'_>) -> Option<Result<Outcome<E>, JoinError>> {
        match poll_arrival_in(&self.children, cx) {
            Poll::Ready(Some((_, outcome))) => Some(outcome),
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup")
            .field("scope", &self.scope)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}

/// What has gone wrong so far.
struct Failures<E> {
    list: Vec<Failure<E>>,
    /// Whether the list tells what ended the members that were cut short.
    is_explained: bool,
}

impl<E> Failures<E> {
    /// Adds what a member did, and ends the others.
    fn add(&mut self, failure: Failure<E>, node: &ScopeNode) {
        self.list.push(failure);
        if node.cancelled().is_none() {
            node.cancel(Cancelled::Request);
            self.is_explained = true;
        }
    }

    /// Adds what was done to a member, once, unless a failure has led to it.
    fn add_cancelled(&mut self, why: Cancelled) {
        if !mem::replace(&mut self.is_explained, true) {
            self.list.push(Failure::Cancelled(why));
        }
    }
}

impl<E> Failures<E> {
    /// Gives all of them to the caller.
    fn into_error(mut self) -> GroupError<E> {
        for failure in &mut self.list {
            if let Failure::Panicked(error) = failure {
                error.note_given();
            }
        }
        GroupError { failures: self.list }
    }
}

impl<E> Default for Failures<E> {
    fn default() -> Failures<E> {
        Failures { list: Vec::new(), is_explained: false }
    }
}

/// Says which way one member of a group failed.
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
/// use polyloop::scope::{Failure, scope};
///
/// # polyloop::run(async {
/// let outcome = scope(async |_: &TaskGroup<&str>| Err::<(), _>("no"));
/// assert!(matches!(outcome.await.unwrap_err().failures(), [Failure::Error("no")]));
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub enum Failure<E> {
    /// It returned an error.
    Error(E),
    /// It panicked.
    Panicked(JoinError),
    /// It was cut short, by the deadline of the group or because somebody cancelled that. However
    /// many members that ended, it is told once.
    Cancelled(Cancelled),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => error.fmt(f),
            Failure::Panicked(error) => error.fmt(f),
            Failure::Cancelled(why) => why.fmt(f),
        }
    }
}

/// Holds every failure in a group, in the order in which they happened. There is at least one.
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
/// use polyloop::scope::scope;
///
/// # polyloop::run(async {
/// let outcome = scope(async |group: &TaskGroup<&str>| {
///     group.spawn(async { Err("one") });
///     group.spawn(async { Err("two") });
///     Ok(())
/// });
/// assert_eq!(outcome.await.unwrap_err().to_string(), "one; two");
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct GroupError<E> {
    failures: Vec<Failure<E>>,
}

impl<E> GroupError<E> {
    /// Returns the failures.
    pub fn into_failures(self) -> Vec<Failure<E>> {
        self.failures
    }

    /// Lends the failures.
    pub fn failures(&self) -> &[Failure<E>] {
        &self.failures
    }

    /// Reports whether a deadline cut a member short.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::TaskGroup;
    /// use polyloop::scope::timeout_scope;
    ///
    /// # polyloop::run(async {
    /// let late = timeout_scope(Duration::ZERO, async |_: &TaskGroup<()>| {
    ///     std::future::pending::<Result<(), ()>>().await
    /// });
    /// assert!(late.await.unwrap_err().is_elapsed());
    /// # }).unwrap();
    /// ```
    pub fn is_elapsed(&self) -> bool {
        let is_elapsed = |f: &Failure<E>| matches!(f, Failure::Cancelled(Cancelled::Deadline));
        self.failures.iter().any(is_elapsed)
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for failure in &self.failures {
            write!(f, "{separator}{failure}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::event_loop::budget::has_budget;
    use crate::steps::count_steps;
    use crate::{run, yield_now};

    thread_local! {
        static GROUP: RefCell<Option<Rc<TaskGroup<()>>>> = const { RefCell::new(None) };
    }

    /// Looks at the group whenever it is woken or dropped, and counts.
    #[derive(Default)]
    struct Curious(Arc<AtomicUsize>);

    impl Curious {
        fn look(&self) {
            let group = GROUP.with_borrow(|group| group.clone().expect("there is a group"));
            assert!(!group.is_empty());
            group.spawn(async { Ok(()) });
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wake for Curious {
        fn wake(self: Arc<Self>) {
            self.look();
        }
    }

    impl Drop for Curious {
        fn drop(&mut self) {
            self.look();
        }
    }

    #[test]
    fn a_foreign_waker_may_use_the_group_wherever_it_is_called() {
        let n_looks = Arc::new(AtomicUsize::new(0));
        let poll = || {
            // A group of its own each time, since the waker adds a child.
            let group = Rc::new(TaskGroup::new(None));
            GROUP.set(Some(Rc::clone(&group)));
            group.spawn(pending());
            let waker = Waker::from(Arc::new(Curious(Arc::clone(&n_looks))));
            assert!(group.poll_child(&mut Context::from_waker(&waker)).is_none());
            drop(waker);
            group
        };
        run(async {
            let group = poll();
            // It replaces, and so drops, the one that was left.
            assert!(group.poll_child(&mut Context::from_waker(Waker::noop())).is_none());
            assert_eq!(n_looks.load(Ordering::Relaxed), 1);
            while has_budget() {
                assert!(crate::poll_proceed(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            // It is woken at once, and dropped.
            poll();
            assert_eq!(n_looks.load(Ordering::Relaxed), 3);
            GROUP.set(None);
        })
        .unwrap();
    }

    #[test]
    fn a_child_costs_as_much_among_100_000_as_among_100() {
        /// Counts the steps of a hundred children that come and go among `n_children`.
        fn steps_among(n_children: usize) -> u64 {
            let mut steps = 0;
            run(scope(async |group: &TaskGroup<()>| {
                for _ in 0..n_children {
                    group.spawn(std::future::pending());
                }
                yield_now().await;
                for _ in 0..100 {
                    steps += count_steps(|| group.spawn(async { Ok(()) }));
                    while group.len() > n_children {
                        yield_now().await;
                    }
                }
                Err::<(), _>(())
            }))
            .unwrap()
            .unwrap_err();
            steps
        }
        let (few, many) = (steps_among(127), steps_among(131_071));
        assert!(few <= 200, "{few} steps among 127");
        assert_eq!(many, few);
    }
}
