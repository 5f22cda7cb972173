//! Pin projection from a task to the future inside it.

use std::pin::Pin;

/// The contents of a pinned task: a future, and later the future's output in its place.
pub(crate) enum Stage<F, T> {
    /// Invariant: it leaves this place only when [`Pin::set`] drops it.
    Future(F),
    Output(T),
    Empty,
}

/// Returns the future of a pinned task, if it still has one.
pub(crate) fn project<F, T>(stage: Pin<&mut Stage<F, T>>) -> Option<Pin<&mut F>> {
    // SAFETY: nothing is moved out of the reference: it is only matched on, below.
    let stage = unsafe { stage.get_unchecked_mut() };
    match stage {
        // SAFETY: the future is pinned with its task: `Stage` has no `Drop` and is not `Unpin`
        // unless `F` is, and no code moves a future out of it, by the invariant of the variant.
        Stage::Future(future) => Some(unsafe { Pin::new_unchecked(future) }),
        Stage::Output(_) | Stage::Empty => None,
    }
}
