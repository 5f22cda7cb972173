//! The timer slack: how late the kernel may end a wait to save a wake-up.
//!
//! Linux gives every thread 50 µs of it, which is most of what a short sleep is late by. A thread
//! that waits for a deadline here asks for less, once; it costs nothing further.

use std::cell::Cell;

use super::cvt::cvt;

/// The slack of a thread that waits for deadlines.
///
/// With 50 µs sleep(1 ms) is 84 µs late at the median, with 10 µs some 40, with the least there is
/// some 30; but a hundred thousand timers in a hundred milliseconds then take a fifth more
/// processor time each, since every one gets a wait of its own (`compare`, rows "lateness" and
/// "a task each").
const SLACK_NS: libc::c_ulong = 10_000;

thread_local! {
    static IS_PUNCTUAL: Cell<bool> = const { Cell::new(false) };
}

/// Asks for little timer slack on this thread, unless it has been done.
#[inline]
pub(super) fn be_punctual() {
    if !IS_PUNCTUAL.replace(true) {
        ask();
    }
}

#[cold]
fn ask() {
    // SAFETY: the option takes nothing and returns a number.
    let present_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    if libc::c_ulong::try_from(present_ns).is_ok_and(|present_ns| present_ns <= SLACK_NS) {
        // Somebody wants it more punctual still.
        return;
    }
    // SAFETY: the option takes a number and no pointers, and concerns this thread only.
    let result = cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) });
    // A sandbox may refuse it. Waits are then as late as before, which breaks no promise.
    let _ = result;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asked_has_little_slack() {
        be_punctual();
        // SAFETY: the option takes nothing and returns a number.
        let slack_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
        assert!(slack_ns > 0 && slack_ns as libc::c_ulong <= SLACK_NS, "{slack_ns}");
    }
}
