//! The processor time of one thread, without that of others.

use std::time::Duration;

/// Returns the processor time of the calling thread, user and system.
///
/// # References
/// [clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)
pub fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a local that is valid for writes.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    assert_eq!(result, 0, "every system here has the clock of the thread");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
