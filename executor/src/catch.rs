//! Catches panics of foreign code: futures, destructors, wakers and callbacks.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Poll, ready};

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send + 'static>;

/// Calls `poll`, and returns the payload if it panics.
#[inline]
pub(crate) fn catch_poll<T>(poll: impl FnOnce() -> Poll<T>) -> Result<Poll<T>, Payload> {
    catch_unwind(AssertUnwindSafe(poll))
}

/// Polls a future with `poll`, drops it when it has completed, and returns the payload if it panics.
///
/// # Panics
/// Panics if the future has completed before.
#[inline]
pub(crate) fn catch_to_end<F, T>(
    mut future: Pin<&mut Option<F>>,
    poll: impl FnOnce(Pin<&mut F>) -> Poll<T>,
) -> Poll<Result<T, Payload>> {
    let polled = catch_poll(|| {
        let unfinished = future.as_mut().as_pin_mut().expect("it is not polled again");
        let output = ready!(poll(unfinished));
        future.set(None);
        Poll::Ready(output)
    });
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(payload) => {
            quietly(|| future.set(None));
            Poll::Ready(Err(payload))
        }
    }
}

/// Runs foreign code whose panic no caller can receive; the panic hook has reported it.
pub(crate) fn quietly(foreign: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(foreign)) else { return };
    // The payload is foreign too, and its destructor may panic.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // A payload whose destructor panics with a payload whose destructor panics is not
        // followed further.
        mem::forget(again);
    }
}
