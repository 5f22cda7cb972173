//! The loop's clock, and the only place that reads the system's.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::waker::current;

/// The end of the clock, 584 years after the loop began: nobody waits that long.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// Tells the time in nanoseconds since the loop began.
///
/// A clock is monotonic: [`Instant`] is, and a virtual clock only moves on.
pub(crate) struct Clock {
    epoch: Instant,
    /// The time of a virtual clock; none if the clock is the system's.
    virtual_ns: Option<Cell<u64>>,
}

impl Clock {
    pub(crate) fn system() -> Clock {
        Clock { epoch: Instant::now(), virtual_ns: None }
    }

    /// Makes a clock that stands still until it is [advanced](Clock::advance_to).
    pub(crate) fn manual() -> Clock {
        Clock { epoch: Instant::now(), virtual_ns: Some(Cell::new(0)) }
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_ns.is_some()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        match &self.virtual_ns {
            Some(now_ns) => now_ns.get(),
            None => self.ns_of(Instant::now()),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match &self.virtual_ns {
            Some(now_ns) => self.epoch + Duration::from_nanos(now_ns.get()),
            None => Instant::now(),
        }
    }

    /// Converts an instant; those before the loop began are its beginning, those after 584 years
    /// its end.
    pub(crate) fn ns_of(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.epoch);
        match since.as_secs().checked_mul(1_000_000_000) {
            Some(ns) => ns.saturating_add(u64::from(since.subsec_nanos())),
            None => NEVER_NS,
        }
    }

    /// Converts a time of this clock, which the clock has once made of an instant.
    pub(crate) fn instant_of(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    /// Moves a virtual clock on to `ns`, never back.
    pub(crate) fn advance_to(&self, ns: u64) {
        if let Some(now_ns) = &self.virtual_ns {
            now_ns.set(now_ns.get().max(ns));
        }
    }
}

/// Tells how long something takes by the system's clock, even where tasks live by a virtual one.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Returns the current time by the clock of the running loop, which may be virtual.
///
/// Outside a loop it is [`Instant::now`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop_executor::{Builder, now, sleep};
///
/// let runtime = Builder::new().virtual_time(true).build()?;
/// runtime.block_on(async {
///     let start = now();
///     sleep(Duration::from_secs(3_600)).await;
///     assert_eq!(now() - start, Duration::from_secs(3_600));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn now() -> Instant {
    current(|event_loop| event_loop.clock.now()).unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_convert_exactly_and_saturate() {
        let clock = Clock::manual();
        assert_eq!(clock.ns_of(clock.epoch), 0);
        assert_eq!(clock.ns_of(clock.epoch + Duration::new(3, 7)), 3_000_000_007);
        if let Some(past) = clock.epoch.checked_sub(Duration::from_secs(1)) {
            assert_eq!(clock.ns_of(past), 0);
        }
        if let Some(far) = clock.epoch.checked_add(Duration::from_secs(20_000_000_000)) {
            assert_eq!(clock.ns_of(far), u64::MAX);
        }
    }

    #[test]
    fn a_virtual_clock_never_goes_back() {
        let clock = Clock::manual();
        clock.advance_to(50);
        clock.advance_to(20);
        assert_eq!(clock.now_ns(), 50);
    }
}
