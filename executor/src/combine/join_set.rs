//! A set of tasks whose outputs are taken in the order in which they come.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use super::numbered::Numbered;
use crate::event_loop::budget::poll_proceed;
use crate::inspect::lost_panic::given;
use crate::inspect::notes::{Notes, note};
use crate::join::deep_drop::drop_deep;
use crate::raw::waker::{clone_of, drop_of, wake_of};
use crate::runtime::{spawn_at, with_room};
use crate::tasks::stage::quietly;
use crate::{JoinError, JoinHandle};

/// Holds tasks and hands out their outputs as they come. Dropping it ends those that are left.
///
/// Tasks are numbered in the order in which they were spawned, from zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{JoinSet, sleep};
///
/// # polyloop::run(async {
/// let mut set = JoinSet::new();
/// for ms in [3, 1, 2] {
///     set.spawn(async move {
///         sleep(Duration::from_millis(ms)).await;
///         ms
///     });
/// }
/// let mut order = Vec::new();
/// while let Some((_, ms)) = set.join_next().await {
///     order.push(ms.unwrap());
/// }
/// assert_eq!(order, [1, 2, 3]);
/// # }).unwrap();
/// ```
pub struct JoinSet<T> {
    arrivals: Rc<Arrivals<T>>,
    /// Those that have not been handed out, by number.
    tasks: Numbered<JoinHandle<()>>,
}

/// Where the tasks leave their outputs.
struct Arrivals<T> {
    queue: RefCell<Arrived<T>>,
    /// The task that waits for the next one.
    waker: Cell<Option<Waker>>,
    /// Set when nothing will take what arrives from now on.
    is_closed: Cell<bool>,
    /// Drops what has arrived: [`drop_deep`], since an output may own another set.
    ///
    /// A pointer, because destructors do not know that `T` is `'static`.
    drop_arrived: fn(Arrived<T>),
}

/// Outputs in the order in which they came, each with the number of its task.
type Arrived<T> = VecDeque<(usize, Result<T, JoinError>)>;

/// Queues above this length give their memory back when they are empty.
const KEPT_LEN: usize = 1_024;

impl<T> Arrivals<T> {
    fn push(&self, number: usize, outcome: Result<T, JoinError>) {
        if self.is_closed.get() {
            return quietly(|| drop(outcome));
        }
        self.queue.borrow_mut().push_back((number, outcome));
        if let Some(waker) = self.waker.take() {
            wake_of(waker);
        }
    }

    /// Has the task that polls woken by the next arrival.
    fn wait(&self, cx: &Context<'_>) {
        let replaced = self.waker.replace(Some(clone_of(cx.waker())));
        drop_of(replaced);
        note(Notes::CHILDREN);
    }

    fn pop(&self) -> Option<(usize, Result<T, JoinError>)> {
        let mut queue = self.queue.borrow_mut();
        let arrival = queue.pop_front()?;
        if queue.is_empty() && queue.capacity() > KEPT_LEN {
            *queue = VecDeque::new();
        }
        Some(arrival)
    }

    /// Drops what has arrived, and what will.
    fn close(&self) {
        self.is_closed.set(true);
        // Outside the borrow.
        let arrived = self.queue.take();
        if !arrived.is_empty() {
            (self.drop_arrived)(arrived);
        }
    }

    fn new(drop_arrived: fn(Arrived<T>)) -> Rc<Arrivals<T>> {
        Rc::new(Arrivals {
            queue: RefCell::default(),
            waker: Cell::default(),
            is_closed: Cell::new(false),
            drop_arrived,
        })
    }
}

/// Announces the end of one task, whichever way it ends.
struct Announce<T> {
    number: usize,
    arrivals: Rc<Arrivals<T>>,
    outcome: Option<Result<T, JoinError>>,
}

impl<T> Announce<T> {
    fn end_with(mut self, outcome: Result<T, JoinError>) {
        self.outcome = Some(outcome);
    }
}

impl<T> Drop for Announce<T> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(JoinError::cancelled()));
        self.arrivals.push(self.number, outcome);
    }
}

/// Polls `future` by `poll` until that is ready or panics, and announces it.
async fn run_to_end<F, T>(
    future: F,
    mut poll: impl FnMut(Pin<&mut F>, &mut Context<'_>) -> Poll<T>,
    announce: Announce<T>,
) {
    let mut future = pin!(Some(future));
    let outcome = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let unfinished = future.as_mut().as_pin_mut().expect("it is not polled again");
            let output = ready!(poll(unfinished, cx));
            future.set(None);
            Poll::Ready(output)
        }));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(payload) => {
                quietly(|| future.set(None));
                Poll::Ready(Err(JoinError::panicked(payload)))
            }
        }
    })
    .await;
    announce.end_with(outcome);
}

impl<T: 'static> JoinSet<T> {
    /// Makes an empty set.
    ///
    /// # Examples
    /// ```
    /// let set = polyloop::JoinSet::<u8>::new();
    /// assert!(set.is_empty());
    /// ```
    pub fn new() -> JoinSet<T> {
        JoinSet { arrivals: Arrivals::new(drop_deep), tasks: Numbered::new() }
    }

    /// Starts a task in the set and returns its number.
    ///
    /// # Panics
    /// As [`spawn`](crate::spawn): outside a loop, and if 16,777,215 tasks are alive.
    ///
    /// # Examples
    /// ```
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// assert_eq!(set.spawn(async {}), 0);
    /// assert_eq!(set.spawn(async {}), 1);
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> usize
    where
        F: Future<Output = T> + 'static,
    {
        self.spawn_polled(Location::caller(), future, |future, cx| future.poll(cx))
    }

    /// Starts a task that is polled by `poll`, in the name of `spawned_at`.
    #[track_caller]
    pub(crate) fn spawn_polled<F, P>(
        &mut self,
        spawned_at: &'static Location<'static>,
        future: F,
        poll: P,
    ) -> usize
    where
        F: Future + 'static,
        P: FnMut(Pin<&mut F>, &mut Context<'_>) -> Poll<T> + 'static,
    {
        // A future that is refused must not announce itself.
        let future = with_room(spawned_at, future);
        let number = self.tasks.next_number();
        let arrivals = Rc::clone(&self.arrivals);
        let announce = Announce { number, arrivals, outcome: None };
        self.tasks.push(spawn_at(spawned_at, run_to_end(future, poll, announce)));
        number
    }

    /// Waits for the next output, and returns it with the number of its task; none if the set is
    /// empty.
    ///
    /// # Errors
    /// The output is a [`JoinError`] if that task panicked or was aborted.
    ///
    /// # Cancel safety
    /// No output is lost.
    ///
    /// # Examples
    /// ```
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 7 });
    /// assert_eq!(set.join_next().await.unwrap().1.unwrap(), 7);
    /// assert!(set.join_next().await.is_none());
    /// # }).unwrap();
    /// ```
    pub async fn join_next(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// Polls for the next output: see [`join_next`](JoinSet::join_next).
    ///
    /// # Examples
    /// ```
    /// use std::future::poll_fn;
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 7 });
    /// let (number, output) = poll_fn(|cx| set.poll_join_next(cx)).await.unwrap();
    /// assert_eq!((number, output.unwrap()), (0, 7));
    /// # }).unwrap();
    /// ```
    pub fn poll_join_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, JoinError>)>> {
        self.poll_arrival(cx)
            .map(|arrival| arrival.map(|(number, outcome)| (number, given(outcome))))
    }

    /// Polls for the next output, which is yet to be given to someone.
    pub(crate) fn poll_arrival(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, JoinError>)>> {
        ready!(poll_proceed(cx));
        if let Some(arrival) = self.take_arrival() {
            return Poll::Ready(Some(arrival));
        }
        if self.is_empty() {
            return Poll::Ready(None);
        }
        self.arrivals.wait(cx);
        Poll::Pending
    }

    /// Returns the next output if there is one already.
    ///
    /// # Examples
    /// ```
    /// use polyloop::{JoinSet, yield_now};
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 7 });
    /// assert!(set.try_join_next().is_none());
    /// yield_now().await;
    /// assert!(set.try_join_next().is_some());
    /// # }).unwrap();
    /// ```
    pub fn try_join_next(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        let (number, outcome) = self.take_arrival()?;
        Some((number, given(outcome)))
    }

    fn take_arrival(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        let arrival = self.arrivals.pop()?;
        self.tasks.remove(arrival.0);
        Some(arrival)
    }
}

/// Polls for the next output of a set in a cell, which is borrowed for none of the code that may be
/// foreign. None if the set is empty.
pub(crate) fn poll_arrival_in<T: 'static>(
    set: &RefCell<JoinSet<T>>,
    cx: &mut Context<'_>,
) -> Poll<Option<(usize, Result<T, JoinError>)>> {
    ready!(poll_proceed(cx));
    let arrivals = Rc::clone(&set.borrow().arrivals);
    if let Some(arrival) = arrivals.pop() {
        let task = set.borrow_mut().tasks.remove(arrival.0);
        drop(task);
        return Poll::Ready(Some(arrival));
    }
    if set.borrow().is_empty() {
        return Poll::Ready(None);
    }
    arrivals.wait(cx);
    Poll::Pending
}

impl<T> JoinSet<T> {
    /// Returns the number of tasks whose output was not handed out.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Reports whether all outputs were handed out.
    pub fn is_empty(&self) -> bool {
        self.tasks.len() == 0
    }

    /// Ends one task, if it is still in the set; its output then says that it was cancelled.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// let number = set.spawn(pending::<()>());
    /// set.abort(number);
    /// assert!(set.join_next().await.unwrap().1.unwrap_err().is_cancelled());
    /// # }).unwrap();
    /// ```
    pub fn abort(&self, number: usize) {
        if let Some(task) = self.tasks.get(number) {
            task.abort();
        }
    }

    /// Ends all tasks, first spawned first. Their outputs can still be taken.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(pending::<()>());
    /// set.spawn(pending::<()>());
    /// set.abort_all();
    /// while let Some((_, output)) = set.join_next().await {
    ///     assert!(output.unwrap_err().is_cancelled());
    /// }
    /// # }).unwrap();
    /// ```
    pub fn abort_all(&self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }

    /// Lets all tasks go on by themselves. Their outputs are dropped.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    /// use polyloop::{JoinSet, yield_now};
    ///
    /// # polyloop::run(async {
    /// let done = Rc::new(Cell::new(false));
    /// let mut set = JoinSet::new();
    /// set.spawn({
    ///     let done = done.clone();
    ///     async move { done.set(true) }
    /// });
    /// set.detach_all();
    /// drop(set);
    /// yield_now().await;
    /// assert!(done.get());
    /// # }).unwrap();
    /// ```
    pub fn detach_all(&mut self) {
        drop(self.tasks.take());
        // The tasks keep the old place for their outputs; those that are spawned from now on get another.
        let others = Arrivals::new(self.arrivals.drop_arrived);
        mem::replace(&mut self.arrivals, others).close();
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.abort_all();
        self.arrivals.close();
    }
}

impl<T: 'static> Default for JoinSet<T> {
    fn default() -> JoinSet<T> {
        JoinSet::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::steps::count_steps;
    use crate::{as_completed, gather, run, try_gather};

    /// Counts the steps of `n_tasks` that end in the order in which they were spawned, in the reverse order
    /// and in any order, however they are waited for.
    fn steps_of(n_tasks: usize) -> u64 {
        let mut random = fastrand::Rng::with_seed(1);
        let mut order: Vec<_> = (0..n_tasks).collect();
        random.shuffle(&mut order);
        let orders = [(0..n_tasks).collect(), (0..n_tasks).rev().collect(), order];
        count_steps(|| {
            run(async {
                for order in orders {
                    let mut set = JoinSet::new();
                    (0..n_tasks).for_each(|_| assert!(set.spawn(pending::<()>()) < n_tasks));
                    for number in order {
                        set.abort(number);
                    }
                    while set.join_next().await.is_some() {}
                }
                assert_eq!(gather((0..n_tasks).map(ready)).await.len(), n_tasks);
                let values = try_gather((0..n_tasks).map(|i| ready(Ok::<_, ()>(i)))).await;
                assert_eq!(values.unwrap().len(), n_tasks);
                let mut completed = as_completed((0..n_tasks).map(ready));
                while completed.next().await.is_some() {}
            })
            .unwrap();
        })
    }

    #[test]
    fn a_task_costs_as_much_among_100_000_as_among_100() {
        let (few, many) = (steps_of(128), steps_of(131_072));
        // A number is looked for by bisection where tasks end in any order.
        assert!(few <= 128 * 6 * 9, "{few} steps among 128");
        assert!(many <= 131_072 * 6 * 18, "{many} steps among 131,072");
    }
}
