//! Outputs as they come.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::JoinSet;
use crate::JoinError;

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
/// # polyloop::run(async {
/// let sleeps = [2, 1].map(|ms| polyloop::sleep(Duration::from_millis(ms)));
/// let mut done = polyloop::future::as_completed(sleeps);
/// assert_eq!(done.next().await.unwrap().0, 1);
/// assert_eq!(done.next().await.unwrap().0, 0);
/// assert!(done.next().await.is_none());
/// # }).unwrap();
/// ```
#[track_caller]
pub fn as_completed<F>(futures: impl IntoIterator<Item = F>) -> AsCompleted<F::Output>
where
    F: Future + 'static,
{
    let mut set = JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    AsCompleted { set }
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
    ///
    /// # Examples
    /// ```
    /// use std::future::ready;
    /// use polyloop::future::as_completed;
    ///
    /// # polyloop::run(async {
    /// let mut done = as_completed([ready(7)]);
    /// while let Some((position, output)) = done.next().await {
    ///     assert_eq!((position, output.unwrap()), (0, 7));
    /// }
    /// # }).unwrap();
    /// ```
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
