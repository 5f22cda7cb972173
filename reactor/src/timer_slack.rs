//! [`restore_timer_slack`].

use crate::sys::slack;

/// Restores the timer slack of this thread, if a wait with a timeout has lowered it.
///
/// On Linux, a [`Selector`](crate::Selector) that waits with a timeout lowers the timer slack of its thread
/// from 50 µs to 10 µs. The runtime restores it when `run`, `block_on` or `turn` returns, and before it
/// starts a thread.
///
/// Threads and child processes inherit the slack of the thread that starts them. Call this function before
/// a task starts one that should have the usual slack. The next wait lowers the slack again. If the
/// program has set another slack in the meantime, it is not changed.
///
/// # Platform
/// Has an effect on Linux only.
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
