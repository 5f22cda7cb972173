//! The timer slack: how late the kernel may end a wait to save a wake-up.
//!
//! Linux gives every thread 50 µs of it, which is most of what a short sleep is late by. A thread
//! that waits for a deadline here asks for less, once, and gives it back when its loop has run: two
//! or three system calls of 100 ns for a run, where one before and one after each wait would be a
//! twentieth of what a message costs a server.
//!
//! Threads and child processes inherit the slack, and a child process has no means to find out what
//! it was before. So it must be restored before they are started.

use std::cell::Cell;

use super::cvt::cvt;

/// The slack of a thread that waits for deadlines.
///
/// With 50 µs sleep(1 ms) is 84 µs late at the median, with 10 µs some 40, with the least there is
/// some 30; but a hundred thousand timers in a hundred milliseconds then take a fifth more
/// processor time each, since every one gets a wait of its own (`compare`, rows "lateness" and
/// "a task each").
const SLACK_NS: libc::c_ulong = 10_000;

/// Nothing was done about the slack. No thread has it: the kernel takes a zero for its default.
const NOTHING: libc::c_ulong = 0;

/// It was little already, or a sandbox refused.
const IN_VAIN: libc::c_ulong = libc::c_ulong::MAX;

thread_local! {
    /// What this thread has done since the slack was last restored: [`NOTHING`], [`IN_VAIN`], or it was
    /// lowered from this. One number, so that [`restore`] is one comparison where there is nothing to do.
    static ASKED: Cell<libc::c_ulong> = const { Cell::new(NOTHING) };
}

/// Asks for little timer slack on this thread, unless it has been done.
#[inline]
pub(super) fn reduce_timer_slack() {
    if ASKED.get() == NOTHING {
        ask();
    }
}

/// Gives this thread the slack that it had before, unless the program has chosen another meanwhile.
#[inline]
pub(crate) fn restore() {
    if ASKED.get() != NOTHING {
        give_back();
    }
}

#[cold]
fn ask() {
    ASKED.set(match slack_ns() {
        Some(former_ns) if former_ns > SLACK_NS && set_slack(SLACK_NS) => former_ns,
        // Somebody wants it more punctual still, or it cannot be changed. Waits are then as late as
        // before, which breaks no promise.
        _ => IN_VAIN,
    });
}

#[cold]
fn give_back() {
    let former_ns = ASKED.replace(NOTHING);
    if former_ns != IN_VAIN && slack_ns() == Some(SLACK_NS) {
        // What was allowed once is allowed again.
        set_slack(former_ns);
    }
}

/// Is given for arguments that an option of `prctl` does not have: the kernel's call takes five words, and
/// what a caller leaves out is whatever lies in their place.
const NONE: libc::c_ulong = 0;

/// Returns the present slack of this thread.
fn slack_ns() -> Option<libc::c_ulong> {
    // SAFETY: the option takes nothing and returns a number.
    let slack_ns = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK, NONE, NONE, NONE, NONE) };
    libc::c_ulong::try_from(slack_ns).ok()
}

/// Reports whether the slack of this thread could be set.
fn set_slack(slack_ns: libc::c_ulong) -> bool {
    // SAFETY: the option takes a number and no pointers, and concerns this thread only.
    cvt(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns, NONE, NONE, NONE) }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asked_has_little_slack_until_it_gives_it_back() {
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
