//! Giving back the timer slack that a wait has lowered.

use crate::sys::slack;

/// Restores this thread's timer slack, if a wait for a deadline has lowered it.
///
/// On Linux a [`Selector`](crate::Selector) that waits for a deadline asks the kernel to end the wait
/// within 10 µs instead of the usual 50, once for each thread. The executor restores the slack when
/// `block_on`, `run` or a turn for a host returns, and before it starts a thread. Threads and child
/// processes inherit the slack that the starting thread has at that moment: a program that starts one
/// in a task, and wants it to have the usual slack, calls this function before. The next wait lowers
/// the slack again. A slack that the program has changed in between is left as it is.
///
/// # Platform
/// It has an effect on Linux only.
///
/// # References
/// `PR_SET_TIMERSLACK` in [prctl(2)](https://man7.org/linux/man-pages/man2/prctl.2.html).
///
/// # Examples
/// ```
/// use std::process::Command;
///
/// polyloop::time::restore_timer_slack();
/// let child = Command::new("true").spawn();
/// # drop(child.map(|mut child| child.wait()));
/// ```
#[inline]
pub fn restore_timer_slack() {
    slack::restore();
}
