//! The loop's clock, and the only place that reads the system clock.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use polyloop_reactor::monotonic_ns;

/// The end of the clock, 583 years after the first reading in the process.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// The time of the first reading: a year, so that earlier instants can be represented.
const ORIGIN_NS: u64 = 365 * 86_400 * 1_000_000_000;

/// Relates instants to nanoseconds. There is one in the process, so that a time in nanoseconds means the same on every
/// loop and outside.
#[derive(Clone, Copy)]
struct Origin {
    instant: Instant,
    /// The offset to add to [`monotonic_ns`].
    offset_ns: u64,
}

impl Origin {
    fn get() -> Origin {
        static ORIGIN: OnceLock<Origin> = OnceLock::new();
        *ORIGIN.get_or_init(Origin::read)
    }

    /// Reads both clocks one after the other, until a pair of readings takes little time.
    fn read() -> Origin {
        let read = || {
            let instant = Instant::now();
            // Read second, so that no deadline is early: an instant is converted to a later number than
            // its own, by a few nanoseconds.
            let system_ns = monotonic_ns();
            let took = instant.elapsed();
            (took, Origin { instant, offset_ns: ORIGIN_NS.wrapping_sub(system_ns) })
        };
        let closest = (0..16).map(|_| read()).min_by_key(|(took, _)| *took);
        closest.unwrap_or_else(read).1
    }

    fn ns_of(self, instant: Instant) -> u64 {
        match instant.checked_duration_since(self.instant) {
            Some(since) => later(ORIGIN_NS, since),
            None => {
                let before = later(0, self.instant.saturating_duration_since(instant));
                ORIGIN_NS.saturating_sub(before)
            }
        }
    }

    fn instant_of(self, ns: u64) -> Option<Instant> {
        match ns.checked_sub(ORIGIN_NS) {
            Some(since) => self.instant.checked_add(Duration::from_nanos(since)),
            None => self.instant.checked_sub(Duration::from_nanos(ORIGIN_NS - ns)),
        }
    }
}

/// Returns the time `duration` after `ns`, [`NEVER_NS`] if that is beyond the end of the clock.
#[inline]
pub(crate) fn later(ns: u64, duration: Duration) -> u64 {
    let whole_ns = duration.as_secs().checked_mul(1_000_000_000);
    whole_ns
        .and_then(|whole_ns| whole_ns.checked_add(u64::from(duration.subsec_nanos())))
        .and_then(|duration_ns| ns.checked_add(duration_ns))
        .unwrap_or(NEVER_NS)
}

/// Converts an instant; those long before the process started are the start of the clock, those after
/// 583 years its end.
pub(crate) fn ns_of(instant: Instant) -> u64 {
    Origin::get().ns_of(instant)
}

/// Converts a time of the clock, or returns `None` for its end.
pub(crate) fn instant_of(ns: u64) -> Option<Instant> {
    if ns == NEVER_NS { None } else { Origin::get().instant_of(ns) }
}

/// Identifies a clock. Times of one clock are meaningless on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockId(u32);

impl ClockId {
    /// The system clock, which all loops without virtual time use.
    pub(crate) const SYSTEM: ClockId = ClockId(0);

    /// Makes the id of a virtual clock: odd, so that none is the system clock's after a wrap.
    fn next() -> ClockId {
        static N_VIRTUAL: AtomicU32 = AtomicU32::new(0);
        ClockId(N_VIRTUAL.fetch_add(1, Ordering::Relaxed) << 1 | 1)
    }
}

/// A monotonic clock in nanoseconds: the system clock, or a virtual one, which only moves forward.
pub(crate) struct Clock {
    offset_ns: u64,
    id: ClockId,
    /// The time of a virtual clock, or `None` for the system clock.
    virtual_ns: Option<Cell<u64>>,
}

impl Clock {
    pub(crate) fn system() -> Clock {
        Clock { offset_ns: Origin::get().offset_ns, id: ClockId::SYSTEM, virtual_ns: None }
    }

    /// Makes a clock that stands still until it is [advanced](Clock::advance_to).
    pub(crate) fn manual() -> Clock {
        let clock = Clock::system();
        Clock { id: ClockId::next(), virtual_ns: Some(Cell::new(clock.now_ns())), ..clock }
    }

    #[inline]
    pub(crate) fn id(&self) -> ClockId {
        self.id
    }

    pub(crate) fn is_virtual(&self) -> bool {
        self.virtual_ns.is_some()
    }

    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        match &self.virtual_ns {
            Some(now_ns) => now_ns.get(),
            None => self.offset_ns.wrapping_add(monotonic_ns()),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        let virtual_ns = self.virtual_ns.as_ref().and_then(|now_ns| instant_of(now_ns.get()));
        virtual_ns.unwrap_or_else(Instant::now)
    }

    /// Returns the deadline on this clock of a delay from `from_ns` to `deadline_ns` on another.
    #[cold]
    pub(crate) fn shift(&self, deadline_ns: u64, from_ns: u64) -> u64 {
        match deadline_ns {
            NEVER_NS => NEVER_NS,
            deadline_ns => self.now_ns().saturating_add(deadline_ns - from_ns),
        }
    }

    /// Advances a virtual clock to `ns`, never back.
    pub(crate) fn advance_to(&self, ns: u64) {
        if let Some(now_ns) = &self.virtual_ns {
            now_ns.set(now_ns.get().max(ns));
        }
    }
}

/// Measures durations by the system clock, even if the loop has virtual time.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_convert_exactly_and_saturate() {
        let origin = Origin::get();
        assert_eq!(ns_of(origin.instant), ORIGIN_NS);
        assert_eq!(ns_of(origin.instant + Duration::new(3, 7)), ORIGIN_NS + 3_000_000_007);
        for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(86_400)] {
            for instant in [origin.instant + duration, origin.instant - duration] {
                assert_eq!(instant_of(ns_of(instant)), Some(instant));
            }
        }
        if let Some(past) = origin.instant.checked_sub(Duration::from_secs(366 * 86_400)) {
            assert_eq!(ns_of(past), 0);
        }
        if let Some(far) = origin.instant.checked_add(Duration::from_secs(20_000_000_000)) {
            assert_eq!(ns_of(far), NEVER_NS);
        }
        assert_eq!(instant_of(NEVER_NS), None);
    }

    #[test]
    fn an_instant_is_never_taken_for_an_earlier_number_than_the_system_has_for_it() {
        let clock = Clock::system();
        for _ in 0..1_000 {
            let before_ns = clock.now_ns();
            let instant = Instant::now();
            let after_ns = clock.now_ns();
            assert!(ns_of(instant) >= before_ns);
            // Taken for a later one by less than a reading takes, unless the readings at the beginning
            // were all slow.
            assert!(ns_of(instant) <= after_ns + 50_000);
        }
    }

    #[test]
    fn a_virtual_clock_never_goes_back() {
        let clock = Clock::manual();
        let start_ns = clock.now_ns();
        clock.advance_to(start_ns + 50);
        clock.advance_to(start_ns + 20);
        assert_eq!(clock.now_ns(), start_ns + 50);
        assert_eq!(clock.now(), instant_of(start_ns + 50).unwrap());
    }
}
