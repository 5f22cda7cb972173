//! Outputs in the order of completion.

use super::JoinSet;

/// Runs all futures concurrently, and returns a set that yields their outputs in the order of completion.
///
/// Each future runs as a task. The number of a task is the position of its future: see
/// [`JoinSet::join_next_with_number`].
///
/// # Panics
/// Panics outside a runtime.
///
/// # References
/// Python's `asyncio.as_completed`, `FuturesUnordered` of the crate futures.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let sleeps = [2, 1].map(|ms| polyloop::sleep(Duration::from_millis(ms)));
/// let mut done = polyloop::future::as_completed(sleeps);
/// assert_eq!(done.join_next_with_number().await.unwrap().0, 1);
/// assert_eq!(done.join_next_with_number().await.unwrap().0, 0);
/// assert!(done.join_next().await.is_none());
/// # }).unwrap();
/// ```
#[doc(alias = "FuturesUnordered")]
#[track_caller]
pub fn as_completed<F>(futures: impl IntoIterator<Item = F>) -> JoinSet<F::Output>
where
    F: Future + 'static,
{
    // Not by `collect`, in which the caller would be lost.
    JoinSet::from_iter(futures)
}
