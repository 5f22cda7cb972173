//! The timer slack: how late the kernel may end a wait to save a wake-up.
//!
//! The default on Linux is 50 µs, which is most of the lateness of a short sleep. A thread that waits
//! with a timeout here reduces it once, and restores it when its loop has run: two or three system
//! calls of 100 ns for a run. One before and one after each wait would be a twentieth of the cost of
//! a message of a server.
//!
//! Threads and child processes inherit the slack, and a child process cannot find out what it was
//! before. So it must be restored before they are started.

use std::cell::Cell;

use super::cvt::cvt;

/// The slack of a thread that waits with timeouts.
///
/// With 50 µs sleep(1 ms) is 84 µs late at the median, with 10 µs some 40, with the least there is
/// some 30; but a hundred thousand timers in a hundred milliseconds then take a fifth more
/// processor time each, since each one gets its own wait (`compare`, rows "lateness" and
/// "a task each").
const SLACK_NS: libc::c_ulong = 10_000;

/// The slack has not been changed. No thread has this slack: the kernel replaces a zero by its default.
const NOTHING: libc::c_ulong = 0;

/// The slack was small already, or a sandbox has refused to change it.
const UNCHANGED: libc::c_ulong = libc::c_ulong::MAX;

thread_local! {
    /// What this thread has done since the slack was last restored: [`NOTHING`], [`UNCHANGED`], or the
    /// slack before it was reduced. One number, so that [`restore`] is one comparison where there is nothing to do.
    static STATE: Cell<libc::c_ulong> = const { Cell::new(NOTHING) };
}

/// Reduces the timer slack of this thread, unless that has been done.
#[inline]
pub(super) fn reduce_timer_slack() {
    if STATE.get() == NOTHING {
        reduce();
    }
}

/// Restores the timer slack of this thread, unless the program has changed it in the meantime.
#[inline]
pub(crate) fn restore() {
    if STATE.get() != NOTHING {
        restore_former();
    }
}

#[cold]
fn reduce() {
    STATE.set(match slack_ns() {
        Some(former_ns) if former_ns > SLACK_NS && set_slack(SLACK_NS) => former_ns,
        // It is smaller already, or cannot be changed. Waits are then as late as before, which breaks no
        // promise.
        _ => UNCHANGED,
    });
}

#[cold]
fn restore_former() {
    let former_ns = STATE.replace(NOTHING);
    if former_ns != UNCHANGED && slack_ns() == Some(SLACK_NS) {
        // It was allowed before, so it is allowed again.
        set_slack(former_ns);
    }
}

/// Fills the arguments that an option of `prctl` does not have: the system call takes five words, and omitted
/// ones are undefined.
const NONE: libc::c_ulong = 0;

/// Returns the present slack of this thread.
fn slack_ns() -> Option<libc::c_ulong> {
    // SAFETY: the option takes nothing and returns a number.
    let slack_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, NONE, NONE, NONE, NONE) };
    libc::c_ulong::try_from(slack_ns).ok()
}

/// Sets the slack of this thread. Returns whether that has succeeded.
fn set_slack(slack_ns: libc::c_ulong) -> bool {
    // SAFETY: the option takes a number and no pointers, and concerns this thread only.
    cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns, NONE, NONE, NONE) }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_reduces_its_slack_has_little_until_it_restores_it() {
        // A test has a thread of its own.
        assert!(set_slack(40_000));
        for _ in 0..2 {
            reduce_timer_slack();
            reduce_timer_slack();
            assert_eq!(slack_ns(), Some(SLACK_NS));
            restore();
            assert_eq!(slack_ns(), Some(40_000));
            restore();
            assert_eq!(slack_ns(), Some(40_000));
        }
    }

    #[test]
    fn a_slack_that_is_smaller_or_was_changed_meanwhile_is_kept() {
        assert!(set_slack(3_000));
        reduce_timer_slack();
        restore();
        assert_eq!(slack_ns(), Some(3_000));
        assert!(set_slack(40_000));
        reduce_timer_slack();
        assert!(set_slack(20_000));
        restore();
        assert_eq!(slack_ns(), Some(20_000));
    }
}
