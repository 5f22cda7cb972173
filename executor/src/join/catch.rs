//! Turning the panic of a future into an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Poll, ready};

use crate::JoinError;
use crate::tasks::stage::quietly;

/// Polls `future` with `poll`, turns a panic into an error, and drops the future when it is done.
///
/// # Panics
/// If the future is done.
pub(crate) fn catch_poll<F, T>(
    mut future: Pin<&mut Option<F>>,
    poll: impl FnOnce(Pin<&mut F>) -> Poll<T>,
) -> Poll<Result<T, JoinError>> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let unfinished = future.as_mut().as_pin_mut().expect("it is not polled again");
        let output = ready!(poll(unfinished));
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
}
