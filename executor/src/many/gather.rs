//! Waiting for many: for all, for the first, as they come.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use super::JoinSet;
use crate::{JoinError, JoinHandle, timeout};

/// Runs all futures at the same time and returns their outputs in the order of the futures.
///
/// Each runs as a task. A panic of one does not disturb the others: its output is the error.
///
/// # Panics
/// Outside a loop.
///
/// # Cancel safety
/// The futures that are not done are dropped, and the outputs of the others with them.
///
/// # References
/// Python's `asyncio.gather(return_exceptions=True)`.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let squares = polyloop_executor::gather((1..4).map(|i| async move { i * i })).await;
/// let squares: Vec<i32> = squares.into_iter().map(Result::unwrap).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// # }).unwrap();
/// ```
pub async fn gather<F>(futures: impl IntoIterator<Item = F>) -> Vec<Result<F::Output, JoinError>>
where
    F: Future + 'static,
{
    let mut set = spawn_all(futures);
    let mut outputs: Vec<_> = (0..set.len()).map(|_| None).collect();
    while let Some((number, output)) = set.join_next().await {
        outputs[number] = Some(output);
    }
    outputs.into_iter().map(|output| output.expect("every task of the set has ended")).collect()
}

/// Runs all futures at the same time and returns their values in the order of the futures, or
/// ends them all at the first failure.
///
/// # Errors
/// The first failure that happens: a future's own error, or its panic. The futures that are left
/// have been dropped when it is returned.
///
/// # Panics
/// Outside a loop.
///
/// # Cancel safety
/// The futures that are not done are dropped, and the values of the others with them.
///
/// # References
/// Python's `asyncio.gather`, but for what it leaves running.
///
/// # Examples
/// ```
/// use polyloop_executor::{FirstFailure, try_gather};
///
/// # polyloop_executor::run(async {
/// let numbers = try_gather(["1", "2", "x"].map(|text| async { text.parse::<i32>() })).await;
/// assert!(matches!(numbers, Err(FirstFailure::Error(_))));
/// # }).unwrap();
/// ```
pub async fn try_gather<F, T, E>(
    futures: impl IntoIterator<Item = F>,
) -> Result<Vec<T>, FirstFailure<E>>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let mut set = spawn_all(futures);
    let mut values: Vec<_> = (0..set.len()).map(|_| None).collect();
    while let Some((number, output)) = set.join_next().await {
        match output {
            Ok(Ok(value)) => values[number] = Some(value),
            // Dropping the set ends the others.
            Ok(Err(error)) => return Err(FirstFailure::Error(error)),
            Err(error) => return Err(FirstFailure::Panicked(error)),
        }
    }
    Ok(values.into_iter().map(|value| value.expect("every task of the set has ended")).collect())
}

fn spawn_all<F>(futures: impl IntoIterator<Item = F>) -> JoinSet<F::Output>
where
    F: Future + 'static,
{
    let mut set = JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    set
}

/// Says which way one of many failed first.
#[derive(Debug)]
pub enum FirstFailure<E> {
    /// It returned an error.
    Error(E),
    /// It panicked.
    Panicked(JoinError),
}

impl<E: fmt::Display> fmt::Display for FirstFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FirstFailure::Error(error) => error.fmt(f),
            FirstFailure::Panicked(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for FirstFailure<E> {}

/// Runs all futures at the same time and returns their outputs as they come, each with the
/// position of its future.
///
/// # Panics
/// Outside a loop.
///
/// # References
/// Python's `asyncio.as_completed`.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop_executor::run(async {
/// let sleeps = [2, 1].map(|ms| polyloop_executor::sleep(Duration::from_millis(ms)));
/// let mut done = polyloop_executor::as_completed(sleeps);
/// assert_eq!(done.next().await.unwrap().0, 1);
/// assert_eq!(done.next().await.unwrap().0, 0);
/// assert!(done.next().await.is_none());
/// # }).unwrap();
/// ```
pub fn as_completed<F>(futures: impl IntoIterator<Item = F>) -> AsCompleted<F::Output>
where
    F: Future + 'static,
{
    AsCompleted { set: spawn_all(futures) }
}

/// Yields outputs as they come. Made by [`as_completed`]. Dropping it ends what is left.
#[derive(Debug)]
#[must_use = "dropping it ends the tasks"]
pub struct AsCompleted<T> {
    set: JoinSet<T>,
}

impl<T: 'static> AsCompleted<T> {
    /// Waits for the next output; none when all have come.
    ///
    /// # Errors
    /// The output is a [`JoinError`] if that future panicked.
    ///
    /// # Cancel safety
    /// No output is lost.
    pub async fn next(&mut self) -> Option<(usize, Result<T, JoinError>)> {
        self.set.join_next().await
    }
}

impl<T: 'static> Stream for AsCompleted<T> {
    type Item = (usize, Result<T, JoinError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.set.poll_join_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.set.len(), Some(self.set.len()))
    }
}

/// Says when [`wait`] has waited long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When one task is done.
    First,
    /// When one task has failed (it panicked or was aborted), or all are done.
    FirstFailure,
    /// When all are done.
    All,
}

/// Sorts tasks into those that are done and those that are not. Made by [`wait`].
#[derive(Debug)]
#[must_use = "the handles of the tasks are in it"]
pub struct Waited<T> {
    /// The outputs that came, each with the position of its handle, in the order of positions.
    pub done: Vec<(usize, Result<T, JoinError>)>,
    /// The handles of the others, with their positions.
    pub pending: Vec<(usize, JoinHandle<T>)>,
}

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
/// use polyloop_executor::{Until, spawn, wait};
///
/// # polyloop_executor::run(async {
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
    let pending = tasks.into_iter().enumerate().collect();
    let mut waited = Waited { done: Vec::new(), pending };
    let enough = poll_fn(|cx| waited.poll(until, cx));
    match limit {
        None => enough.await,
        // Late is no error here: what is not done is pending.
        Some(limit) => drop(timeout(limit, enough).await),
    }
    waited.done.sort_by_key(|(position, _)| *position);
    waited
}

impl<T: 'static> Waited<T> {
    /// Moves what is done from one list to the other; ready when that is enough.
    fn poll(&mut self, until: Until, cx: &mut Context<'_>) -> Poll<()> {
        let mut is_enough = false;
        for (position, mut task) in std::mem::take(&mut self.pending) {
            match Pin::new(&mut task).poll(cx) {
                Poll::Pending => self.pending.push((position, task)),
                Poll::Ready(output) => {
                    is_enough |= until == Until::First;
                    is_enough |= until == Until::FirstFailure && output.is_err();
                    self.done.push((position, output));
                }
            }
        }
        if is_enough || self.pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}
