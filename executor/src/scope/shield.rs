//! Work that outlives whoever awaits it.

use crate::{JoinHandle, spawn};

/// Runs `future` as a task of its own, so that it goes on if whoever awaits it is dropped.
///
/// Dropping the handle, by a timeout, a race or the end of a scope, leaves the task running. It
/// still ends with its loop: [`run`](crate::run) cancels what is left when its future is done, so
/// keep the handle if the work must be finished by then.
///
/// In asyncio, `shield` takes away the effect of `cancel`, and the awaiting side sees a
/// `CancelledError` while the inner task goes on. Here nobody can cancel the task through an `await`,
/// so all that is needed is a task: `shield` is [`spawn`] under the name by which it is looked
/// for. Unlike asyncio's, the task needs no other reference to stay alive. To delay the end of a
/// scope instead of outliving it, see [`shielded`](crate::shielded).
///
/// # Errors
/// The output is a [`JoinError`](crate::JoinError) if `future` panicked, or was aborted through the
/// handle.
///
/// # Panics
/// Outside a loop.
///
/// # References
/// Python's `asyncio.shield`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{sleep, timeout};
/// use polyloop::scope::shield;
///
/// # polyloop::run(async {
/// let mut saving = shield(async {
///     sleep(Duration::from_millis(2)).await;
///     "saved"
/// });
/// assert!(timeout(Duration::from_millis(1), &mut saving).await.is_err());
/// assert_eq!(saving.await.unwrap(), "saved");
/// # }).unwrap();
/// ```
#[track_caller]
pub fn shield<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn(future)
}
