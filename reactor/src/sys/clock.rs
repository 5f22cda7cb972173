//! The monotonic clock as one number.

/// The clock that [`std::time::Instant`] reads.
#[cfg(target_vendor = "apple")]
const CLOCK: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
#[cfg(not(target_vendor = "apple"))]
const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Returns the time of the monotonic clock in nanoseconds.
///
/// It is the clock of [`std::time::Instant`], as a number. It counts from an arbitrary point in time.
///
/// # Examples
/// ```
/// let before = polyloop::driver::monotonic_ns();
/// assert!(polyloop::driver::monotonic_ns() >= before);
/// ```
#[inline]
pub fn monotonic_ns() -> u64 {
    // SAFETY: a `timespec` is plain integers (some systems add padding), for which zero is valid.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is valid for writes of a `timespec`.
    let result = unsafe { libc::clock_gettime(CLOCK, &raw mut time) };
    // It fails only for an unknown clock, and every system has this one.
    debug_assert_eq!(result, 0);
    // Neither is negative, and 2⁶⁴ ns are 584 years.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
