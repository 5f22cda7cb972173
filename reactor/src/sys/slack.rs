//! The timer slack: how late the kernel may end a wait to save a wake-up.
//!
//! Linux gives every thread 50 µs of it, which is most of what a short sleep is late by. A thread
//! that waits for a deadline here asks for the least there is, once; it costs nothing further, and
//! processors that halt go on doing so between the waits.

use std::cell::Cell;

use super::cvt::cvt;

thread_local! {
    static IS_PUNCTUAL: Cell<bool> = const { Cell::new(false) };
}

/// Asks for the least timer slack on this thread, unless it has been done.
#[inline]
pub(super) fn be_punctual() {
    if !IS_PUNCTUAL.replace(true) {
        ask();
    }
}

#[cold]
fn ask() {
    let least_ns: libc::c_ulong = 1;
    // SAFETY: the option takes a number and no pointers, and concerns this thread only.
    let result = cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, least_ns) });
    // A sandbox may refuse it. Waits are then as late as before, which breaks no promise.
    let _ = result;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asked_has_the_least_slack() {
        be_punctual();
        // SAFETY: the option takes nothing and returns a number.
        let slack_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        assert_eq!(slack_ns, 1);
    }
}
