//! The current loop of a thread: a pointer that is set only while [`within`] is on the stack.

use std::cell::Cell;
use std::ptr;

use crate::event_loop::EventLoop;

thread_local! {
    /// The loop that runs on this thread, or null.
    ///
    /// Invariant: not null only within [`within`], which borrows the loop for as long.
    static CURRENT: Cell<*const EventLoop> = const { Cell::new(ptr::null()) };
}

/// Calls `f` with `event_loop` as this thread's current loop.
#[inline(always)]
pub(crate) fn within<R>(event_loop: &EventLoop, f: impl FnOnce() -> R) -> R {
    struct Restore(*const EventLoop);

    impl Drop for Restore {
        #[inline(always)]
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }

    let _restore = Restore(CURRENT.replace(event_loop));
    f()
}

/// Calls `f` with the loop that runs on this thread, if there is one.
#[inline]
pub(crate) fn current<R>(f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    let event_loop = CURRENT.get();
    // SAFETY: by the invariant of `CURRENT` the pointer is null, or `within` is further up this
    // thread's stack and borrows the loop until it has restored the pointer. `f` cannot keep the
    // reference, since its lifetime ends with this call.
    let event_loop = unsafe { event_loop.as_ref() };
    event_loop.map(f)
}
