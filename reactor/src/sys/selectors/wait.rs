//! Timeouts: a logical wait, the kernel waits that it consists of, and their units.
//!
//! Every unit is rounded up, so a wait never ends early, and a timer that is due in half a
//! millisecond does not turn into a busy loop of zero-millisecond waits. A single kernel wait is
//! clamped to [`LONGEST`]; the logical wait continues until its deadline.

use std::time::{Duration, Instant};

use libc::c_int;

use crate::sys::slack::reduce_timer_slack;

/// The longest single wait in the kernel: macOS refuses more than 10⁸ s, and a `c_int` of
/// milliseconds ends at 24.8 days.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// One call of `select`, from its timeout to its end.
#[derive(Debug)]
pub(super) struct Wait {
    end: End,
    /// The timeout of the next kernel wait. `None` means no limit.
    slice: Option<Duration>,
}

#[derive(Debug)]
enum End {
    /// Does not block.
    Now,
    At(Instant),
    /// No timeout, or one beyond what the clock can express.
    Never,
}

impl Wait {
    /// Starts a wait. Reads the clock only to compute a deadline.
    #[inline]
    pub(super) fn start(timeout: Option<Duration>) -> Wait {
        let end = match timeout {
            None => End::Never,
            Some(Duration::ZERO) => End::Now,
            Some(timeout) => {
                reduce_timer_slack();
                match Instant::now().checked_add(timeout) {
                    Some(deadline) => End::At(deadline),
                    None => End::Never,
                }
            }
        };
        let slice = match end {
            End::Never => None,
            _ => timeout.map(|timeout| timeout.min(LONGEST)),
        };
        Wait { end, slice }
    }

    /// Returns the timeout of the next kernel wait. `None` means no limit.
    #[inline]
    pub(super) fn slice(&self) -> Option<Duration> {
        self.slice
    }

    /// Returns whether there is time left after a kernel wait without an event.
    #[inline]
    pub(super) fn has_time_left(&mut self) -> bool {
        match self.end {
            End::Now => false,
            End::Never => true,
            End::At(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.slice = Some(left.min(LONGEST));
                !left.is_zero()
            }
        }
    }

    /// Makes every further kernel wait return at once, since there is something to report already.
    pub(super) fn stop_blocking(&mut self) {
        *self = Wait { end: End::Now, slice: Some(Duration::ZERO) };
    }
}

/// Converts to the milliseconds of poll and `epoll_wait`, where -1 means no limit.
#[inline]
pub(in crate::sys) fn to_ms(timeout: Option<Duration>) -> c_int {
    const NS_PER_MS: u128 = 1_000_000;
    match timeout {
        None => -1,
        // At most 86,400,000 once clamped.
        Some(timeout) => timeout.min(LONGEST).as_nanos().div_ceil(NS_PER_MS) as c_int,
    }
}

/// Converts to the `timespec` of pselect, ppoll and kevent.
pub(in crate::sys) fn to_timespec(timeout: Duration) -> libc::timespec {
    let timeout = timeout.min(LONGEST);
    // SAFETY: a `timespec` is plain integers (some systems add padding), for which zero is valid.
    let mut timespec: libc::timespec = unsafe { std::mem::zeroed() };
    // Both fit any width: at most 86,400 and 999,999,999.
    timespec.tv_sec = timeout.as_secs() as _;
    timespec.tv_nsec = timeout.subsec_nanos() as _;
    timespec
}

/// Converts to the `timeval` of select.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn to_timeval(timeout: Duration) -> libc::timeval {
    const NS_PER_US: u128 = 1_000;
    const US_PER_S: u128 = 1_000_000;
    // At most 86,400,000,000 once clamped.
    let us = timeout.min(LONGEST).as_nanos().div_ceil(NS_PER_US);
    libc::timeval { tv_sec: (us / US_PER_S) as _, tv_usec: (us % US_PER_S) as _ }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_clamped() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_nanos(999_999), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (Duration::from_micros(1_500), 2),
            (Duration::from_secs(1), 1_000),
            (LONGEST, 86_400_000),
            (LONGEST + Duration::from_nanos(1), 86_400_000),
            (Duration::from_millis(i32::MAX as u64 + 1), 86_400_000),
            (Duration::MAX, 86_400_000),
        ];
        for (timeout, ms) in table {
            assert_eq!(to_ms(Some(timeout)), ms, "{timeout:?}");
        }
        assert_eq!(to_ms(None), -1);
    }

    #[test]
    fn a_timespec_is_exact_and_clamped() {
        let table = [
            (Duration::ZERO, 0, 0),
            (Duration::from_nanos(1), 0, 1),
            (Duration::from_nanos(999_999), 0, 999_999),
            (Duration::from_millis(1), 0, 1_000_000),
            (Duration::new(1, 999_999_999), 1, 999_999_999),
            (LONGEST + Duration::from_nanos(1), 86_400, 0),
            (Duration::MAX, 86_400, 0),
        ];
        for (timeout, seconds, nanoseconds) in table {
            let timespec = to_timespec(timeout);
            assert_eq!((timespec.tv_sec, timespec.tv_nsec), (seconds, nanoseconds), "{timeout:?}");
        }
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn microseconds_are_rounded_up_and_clamped() {
        let table = [
            (Duration::ZERO, 0, 0),
            (Duration::from_nanos(1), 0, 1),
            (Duration::from_nanos(1_001), 0, 2),
            (Duration::from_nanos(999_999_001), 1, 0),
            (Duration::new(1, 999_999_999), 2, 0),
            (Duration::MAX, 86_400, 0),
        ];
        for (timeout, seconds, microseconds) in table {
            let timeval = to_timeval(timeout);
            assert_eq!((timeval.tv_sec, timeval.tv_usec), (seconds, microseconds), "{timeout:?}");
        }
    }

    #[test]
    fn a_wait_without_timeout_never_ends() {
        let mut wait = Wait::start(None);
        assert_eq!(wait.slice(), None);
        assert!(wait.has_time_left());
    }

    #[test]
    fn a_wait_of_zero_does_not_block() {
        let mut wait = Wait::start(Some(Duration::ZERO));
        assert_eq!(wait.slice(), Some(Duration::ZERO));
        assert!(!wait.has_time_left());
    }

    #[test]
    fn a_long_wait_continues_after_its_first_slice() {
        let mut wait = Wait::start(Some(3 * LONGEST));
        assert_eq!(wait.slice(), Some(LONGEST));
        assert!(wait.has_time_left());
        assert_eq!(wait.slice(), Some(LONGEST));
    }

    #[test]
    fn the_longest_duration_is_no_timeout() {
        assert_eq!(Wait::start(Some(Duration::MAX)).slice(), None);
    }

    #[test]
    fn a_second_slice_is_what_the_first_left() {
        let mut wait = Wait::start(Some(Duration::from_millis(50)));
        std::thread::sleep(Duration::from_millis(5));
        assert!(!wait.has_time_left() || wait.slice().unwrap() <= Duration::from_millis(45));
    }

    #[test]
    fn a_wait_is_over_at_its_deadline_and_not_before() {
        let mut wait = Wait::start(Some(Duration::from_millis(5)));
        let begin = Instant::now();
        while wait.has_time_left() {}
        assert!(begin.elapsed() >= Duration::from_millis(4));
        wait.stop_blocking();
        assert!(!wait.has_time_left());
    }
}
