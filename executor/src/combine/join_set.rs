//! A set of tasks whose outputs are taken in the order of completion.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::arrivals::{Announce, Arrivals};
use super::numbered::Numbered;
use crate::join::deep_drop::drop_deep;
use crate::join::join_error::given;
use crate::running::poll_proceed;
use crate::runtime::run::{spawn_at, with_room};
use crate::{JoinError, JoinHandle};

/// A collection of tasks that returns their outputs in the order of completion.
///
/// Dropping the set aborts the tasks that are left in it.
///
/// Tasks are numbered in the order in which they are spawned, starting with zero. The set is a
/// [`Stream`] of outputs, and is collected from an iterator of futures.
///
/// # References
/// tokio's `JoinSet`.
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
/// while let Some(ms) = set.join_next().await {
///     order.push(ms.unwrap());
/// }
/// assert_eq!(order, [1, 2, 3]);
/// # }).unwrap();
/// ```
#[must_use = "dropping the set aborts its tasks"]
pub struct JoinSet<T> {
    arrivals: Rc<Arrivals<T>>,
    /// The tasks whose outputs have not been returned, by number.
    tasks: Numbered<JoinHandle<()>>,
}

impl<T: 'static> JoinSet<T> {
    /// Creates an empty set.
    ///
    /// # Examples
    /// ```
    /// let set = polyloop::JoinSet::<u8>::new();
    /// assert!(set.is_empty());
    /// ```
    pub fn new() -> JoinSet<T> {
        JoinSet { arrivals: Arrivals::new(drop_deep), tasks: Numbered::new() }
    }

    /// Spawns a task in the set, and returns its number.
    ///
    /// # Panics
    /// Panics outside a runtime, or if 16,777,215 tasks are alive.
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

    /// Spawns a task that is polled by `poll`, and reported as spawned at `spawned_at`.
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
        let announce = Announce::new(number, Rc::clone(&self.arrivals));
        self.tasks.push(spawn_at(spawned_at, announce.run(future, poll)));
        number
    }

    /// Waits for the next task to end, and returns its output, or `None` if the set is empty.
    ///
    /// # Errors
    /// The output is a [`JoinError`] if the task panicked or was aborted.
    ///
    /// # Cancel safety
    /// Cancel safe: no output is lost.
    ///
    /// # Examples
    /// ```
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::new();
    /// set.spawn(async { 7 });
    /// assert_eq!(set.join_next().await.unwrap().unwrap(), 7);
    /// assert!(set.join_next().await.is_none());
    /// # }).unwrap();
    /// ```
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// Waits for the next task to end, and returns its number and output, or `None` if the set is empty.
    ///
    /// # Errors
    /// The output is a [`JoinError`] if the task panicked or was aborted.
    ///
    /// # Cancel safety
    /// Cancel safe: no output is lost.
    ///
    /// # Examples
    /// ```
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::from_iter(["a", "b"].map(std::future::ready));
    /// while let Some((number, output)) = set.join_next_with_number().await {
    ///     assert_eq!(output.unwrap(), ["a", "b"][number]);
    /// }
    /// # }).unwrap();
    /// ```
    #[doc(alias = "join_next_with_id")]
    pub async fn join_next_with_number(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        poll_fn(|cx| self.poll_join_next_with_number(cx)).await
    }

    /// Polls for the next output, as [`join_next`](JoinSet::join_next) does.
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        let arrival = ready!(self.poll_join_next_with_number(cx));
        Poll::Ready(arrival.map(|(_, output)| output))
    }

    fn poll_join_next_with_number(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<T, JoinError>)>> {
        let arrival = ready!(self.poll_arrival(cx));
        Poll::Ready(arrival.map(|(number, outcome)| (number, given(outcome))))
    }

    /// Polls for the next output, without marking its panic as received.
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

    /// Returns the output of the next task that has ended, or `None` if no task has.
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
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let (_, outcome) = self.take_arrival()?;
        Some(given(outcome))
    }

    fn take_arrival(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        let arrival = self.arrivals.pop()?;
        self.tasks.remove(arrival.0);
        Some(arrival)
    }
}

/// Polls for the next output of a set in a cell, which is not borrowed while foreign code may run.
///
/// A poll without an output takes nothing from the budget: otherwise the groups around a body could spend it before the body
/// is polled.
pub(crate) fn poll_arrival_in<T: 'static>(
    set: &RefCell<JoinSet<T>>,
    cx: &mut Context<'_>,
) -> Poll<Option<(usize, Result<T, JoinError>)>> {
    let arrivals = Rc::clone(&set.borrow().arrivals);
    if !arrivals.is_empty() {
        ready!(poll_proceed(cx));
    }
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
    /// Returns the number of tasks in the set, including those that have ended and whose output was not taken.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Reports whether the set has no tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.len() == 0
    }

    /// Aborts the task with this number, if it is in the set. Its output is then a cancelled [`JoinError`].
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
    /// assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    /// # }).unwrap();
    /// ```
    #[doc(alias = "abort_handle")]
    pub fn abort(&self, number: usize) {
        if let Some(task) = self.tasks.get(number) {
            task.abort();
        }
    }

    /// Aborts all tasks, in the order in which they were spawned. Their outputs can still be taken.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use polyloop::JoinSet;
    ///
    /// # polyloop::run(async {
    /// let mut set = JoinSet::from_iter([pending::<()>(), pending()]);
    /// set.abort_all();
    /// while let Some(output) = set.join_next().await {
    ///     assert!(output.unwrap_err().is_cancelled());
    /// }
    /// # }).unwrap();
    /// ```
    pub fn abort_all(&self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }

    /// Removes all tasks from the set without aborting them. Their outputs are dropped.
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
        // The tasks keep the old queue, which is closed; tasks that are spawned from now on get a new one.
        let others = self.arrivals.new_like();
        mem::replace(&mut self.arrivals, others).close();
    }
}

impl<T: 'static> Stream for JoinSet<T> {
    type Item = Result<T, JoinError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_join_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

/// Spawns a task for each future.
///
/// # Panics
/// Panics where [`JoinSet::spawn`] does.
impl<T: 'static, F> FromIterator<F> for JoinSet<T>
where
    F: Future<Output = T> + 'static,
{
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> JoinSet<T> {
        let mut set = JoinSet::new();
        set.extend(futures);
        set
    }
}

/// Spawns a task for each future.
///
/// # Panics
/// Panics where [`JoinSet::spawn`] does.
impl<T: 'static, F> Extend<F> for JoinSet<T>
where
    F: Future<Output = T> + 'static,
{
    #[track_caller]
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
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
                while completed.join_next().await.is_some() {}
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
