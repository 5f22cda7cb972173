//! Task groups: child tasks that end before their group does.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::cancel_scope::{DeadlineTimer, outlast_enclosing};
use super::failure::Failures;
use super::scope_node::{EndOnDrop, ScopeNode};
use super::{CancelScope, Cancelled, Failure, GroupError};
use crate::JoinError;
use crate::catch::quietly;
use crate::combine::JoinSet;
use crate::combine::fairness::Turns;
use crate::combine::join_set::poll_arrival_in;
use crate::combine::slab::Slab;
use crate::event_loop::EventLoop;
use crate::raw::current::current;
use crate::running::poll_proceed;
use crate::runtime::run::with_room;

/// A group of child tasks, all of which end before the group does.
///
/// [`TaskGroup::scope`] creates a group, passes it to a body that spawns children into it, and waits for all of
/// them. No child outlives the scope, whether it completes, fails, is cancelled or is dropped.
///
/// # References
/// Python's `asyncio.TaskGroup`, trio's nurseries.
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
///
/// # polyloop::run(async {
/// TaskGroup::<()>::scope(async |group| {
///     group.spawn(async { Ok(()) });
///     assert_eq!(group.len(), 1);
///     Ok(())
/// })
/// .await
/// .unwrap();
/// # }).unwrap();
/// ```
#[doc(alias = "nursery")]
pub struct TaskGroup<E> {
    scope: CancelScope,
    children: RefCell<JoinSet<Outcome<E>>>,
    members: Rc<Members>,
}

/// The scopes of the children that have not ended.
#[derive(Default)]
struct Members(RefCell<Slab<Rc<ScopeNode>>>);

/// The scope of one child. It ends, and leaves the list of members, when the child does.
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

/// The outcome of a child that did not panic: its own result, or why it was cancelled.
type Outcome<E> = Result<Result<(), E>, Cancelled>;

impl<E: 'static> TaskGroup<E> {
    fn new() -> TaskGroup<E> {
        let scope = CancelScope::new();
        scope.node.start();
        TaskGroup { scope, children: RefCell::new(JoinSet::new()), members: Rc::default() }
    }

    /// Runs `body` with a new group, and waits for it and for all children that it spawns.
    ///
    /// The first failure, of `body` or of a child, cancels the others: their futures are dropped, those in a
    /// [`shielded`](crate::shielded) section when that section ends. A failure takes effect while `body` awaits.
    /// All failures are returned.
    ///
    /// If the returned future is dropped, by a timeout or a race for instance, the children are dropped with it.
    ///
    /// To bound the group in time, call `group.cancel_scope().set_timeout(duration)` in `body`.
    ///
    /// # Errors
    /// Returns a [`GroupError`] with all failures: errors that members returned, panics, and
    /// [`Failure::Cancelled`] if the group was cancelled or its deadline elapsed before a member ended.
    ///
    /// # Panics
    /// Panics if polled outside a runtime, or if `body` panics; the children have been dropped by then.
    ///
    /// # Cancel safety
    /// `body` and the children are dropped, shielded sections included.
    ///
    /// # References
    /// Python's `async with asyncio.TaskGroup()`, trio's `open_nursery`.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, num::ParseIntError, rc::Rc};
    /// use polyloop::TaskGroup;
    ///
    /// # polyloop::run(async {
    /// let sum = TaskGroup::<ParseIntError>::scope(async |group| {
    ///     let total = Rc::new(Cell::new(0));
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
    #[doc(alias = "open_nursery")]
    #[doc(alias = "nursery")]
    pub async fn scope<T>(
        body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
    ) -> Result<T, GroupError<E>> {
        let group = TaskGroup::new();
        let node = &group.scope.node;
        let _end = EndOnDrop(Rc::clone(node));
        let mut body = pin!(Some(body(&group)));
        let body_node = node.inner();
        let mut timer = DeadlineTimer::default();
        let mut value = None;
        let mut failures = Failures::default();
        let mut was_requested = false;
        let mut turns = Turns::new();
        poll_fn(|cx| {
            node.attach();
            // In turns, because both the body and the outputs of many children could spend the budget.
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
                        // The loop is shutting down: nothing else aborts a child.
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => failures.add(Failure::Panicked(error), node),
                    }
                }
                Poll::Pending
            });
            timer.poll(node, cx);
            let is_requested = node.cancel_requested().is_some();
            if is_requested && !was_requested {
                group.wake_members();
                match body_node.must_end() {
                    Some(why) if body.is_some() => {
                        body.set(None);
                        failures.add_cancelled(why);
                    }
                    _ => body_node.wake(),
                }
            }
            was_requested = is_requested;
            // The end takes one operation, so that a loop of groups yields.
            if body.is_none() && group.is_empty() { poll_proceed(cx) } else { node.wait(cx) }
        })
        .await;
        if failures.is_explained() && node.cancelled().is_none() {
            outlast_enclosing(node).await;
        }
        match value {
            Some(value) if failures.is_empty() => Ok(value),
            _ => Err(failures.into_error()),
        }
    }

    /// Spawns a child task.
    ///
    /// The child returns its value by putting it into a cell or a channel that it shares with the body. In a
    /// group that was cancelled, `child` is dropped without being polled.
    ///
    /// # Panics
    /// Panics outside a runtime.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use polyloop::TaskGroup;
    ///
    /// # polyloop::run(async {
    /// let answer = TaskGroup::<()>::scope(async |group| {
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
    #[doc(alias = "create_task")]
    #[doc(alias = "start_soon")]
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
        // A future that is refused is foreign, and dropped outside the borrow.
        let child = with_room(spawned_at, child);
        let node = self.scope.node.inner();
        let place = self.members.0.borrow_mut().insert(Rc::clone(&node));
        let member = Member { node, members: Rc::clone(&self.members), place };
        let poll = move |child: Pin<&mut F>, cx: &mut Context<'_>| {
            member.node.poll(cx, |cx| child.poll(cx))
        };
        self.children.borrow_mut().spawn_polled(spawned_at, child, poll);
        // The scope has to watch a new child.
        self.scope.node.wake();
    }

    /// Returns the number of children that have not ended.
    pub fn len(&self) -> usize {
        self.children.borrow().len()
    }

    /// Reports whether all children have ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the cancel scope of the group, which cancels it and sets its deadline.
    ///
    /// # References
    /// trio's `Nursery.cancel_scope`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::TaskGroup;
    ///
    /// # polyloop::run(async {
    /// let outcome = TaskGroup::<&str>::scope(async |group| {
    ///     group.spawn(std::future::pending());
    ///     // The child is dropped.
    ///     group.cancel_scope().cancel();
    ///     Ok(())
    /// });
    /// assert_eq!(outcome.await.unwrap_err().to_string(), "scope was cancelled");
    /// # }).unwrap();
    /// ```
    pub fn cancel_scope(&self) -> &CancelScope {
        &self.scope
    }

    /// Wakes all children, so that they check whether they are cancelled.
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::running::has_budget;
    use crate::steps::count_steps;
    use crate::{run, yield_now};

    thread_local! {
        static GROUP: RefCell<Option<Rc<TaskGroup<()>>>> = const { RefCell::new(None) };
    }

    /// Uses the group whenever it is woken or dropped, and counts.
    #[derive(Default)]
    struct Curious(Arc<AtomicUsize>);

    impl Curious {
        fn use_group(&self) {
            let group = GROUP.with_borrow(|group| group.clone().expect("there is a group"));
            assert!(!group.is_empty());
            group.spawn(async { Ok(()) });
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Wake for Curious {
        fn wake(self: Arc<Self>) {
            self.use_group();
        }
    }

    impl Drop for Curious {
        fn drop(&mut self) {
            self.use_group();
        }
    }

    #[test]
    fn a_foreign_waker_may_use_the_group_wherever_it_is_called() {
        let n_uses = Arc::new(AtomicUsize::new(0));
        // A new group each time, since the waker adds a child.
        let new_group = || {
            let group = Rc::new(TaskGroup::new());
            GROUP.set(Some(Rc::clone(&group)));
            group.spawn(pending());
            group
        };
        let poll = |group: Rc<TaskGroup<()>>| {
            let waker = Waker::from(Arc::new(Curious(Arc::clone(&n_uses))));
            assert!(group.poll_child(&mut Context::from_waker(&waker)).is_none());
            drop(waker);
            group
        };
        run(async {
            let group = poll(new_group());
            // It replaces, and so drops, the registered waker.
            assert!(group.poll_child(&mut Context::from_waker(Waker::noop())).is_none());
            assert_eq!(n_uses.load(Ordering::Relaxed), 1);
            let group = new_group();
            group.spawn(async { Ok(()) });
            yield_now().await;
            while has_budget() {
                assert!(poll_proceed(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            // There is an output: the waker is woken at once, and dropped.
            poll(group);
            assert_eq!(n_uses.load(Ordering::Relaxed), 3);
            GROUP.set(None);
        })
        .unwrap();
    }

    #[test]
    fn a_child_costs_as_much_among_100_000_as_among_100() {
        /// Counts the steps of a hundred children that come and go among `n_children`.
        fn steps_among(n_children: usize) -> u64 {
            let mut steps = 0;
            run(TaskGroup::<()>::scope(async |group| {
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
