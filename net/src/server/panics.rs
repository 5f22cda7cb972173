//! Containing panics: while accepting, and of the callback for events.

use std::any::Any;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Turns a panic on the way to one connection into an error of that connection.
pub(super) fn contain_panic<R>(step: &str, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        drop_payload(Some(payload));
        let message = format!("{step} a connection panicked");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
    })
}

/// Drops the payload of a panic, whose destructor may panic in turn.
pub(super) fn drop_payload(payload: Option<Box<dyn Any + Send>>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Its destructor may panic as well, and so on without end.
        mem::forget(again);
    }
}
