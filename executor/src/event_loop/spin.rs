//! Spinning before sleeping, as long as spinning has recently found events.
//!
//! A halted processor takes about 35 µs to wake up. A loop that polls for events repeatedly instead of sleeping answers a
//! waiting client three times as fast, and uses the whole processor if no event arrives. So it spins only if spinning
//! would recently have found events: sleeps that spinning would have avoided and successful spins count alike.

use std::cell::Cell;
use std::time::Duration;

/// The latency of a sleep beyond the event that ends it. A sleep that ended within this time plus the limit would have been
/// avoided.
const WAKE_COST_NS: u64 = 50_000;

/// How many times in a row spinning must fail before it is disabled, or would have succeeded before it is enabled.
const MEMORY: i8 = 4;

/// Decides whether the loop spins before it sleeps.
#[derive(Debug)]
pub(crate) struct Spin {
    limit_ns: u64,
    /// Positive while spinning is enabled.
    score: Cell<i8>,
}

impl Spin {
    pub(crate) fn new(limit: Duration) -> Spin {
        Spin { limit_ns: limit.as_nanos().try_into().unwrap_or(u64::MAX), score: Cell::new(0) }
    }

    /// Reports whether the builder enabled spinning.
    pub(crate) fn is_on(&self) -> bool {
        self.limit_ns > 0
    }

    /// Reports whether spinning has recently found events.
    pub(crate) fn pays(&self) -> bool {
        self.score.get() > 0
    }

    pub(crate) fn limit_ns(&self) -> u64 {
        self.limit_ns
    }

    /// Records how long the loop slept before an event.
    pub(crate) fn note_sleep(&self, slept_ns: u64) {
        self.note(slept_ns <= self.limit_ns.saturating_add(WAKE_COST_NS));
    }

    /// Records whether spinning found an event.
    pub(crate) fn note(&self, paid: bool) {
        let score = self.score.get() + if paid { 1 } else { -1 };
        self.score.set(score.clamp(-MEMORY, MEMORY));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_start_it_and_failures_end_it() {
        let spin = Spin::new(Duration::from_micros(50));
        assert!(spin.is_on() && !spin.pays());
        spin.note_sleep(60_000);
        assert!(spin.pays());
        spin.note(true);
        spin.note(false);
        assert!(spin.pays());
        spin.note(false);
        assert!(!spin.pays());
        for _ in 0..100 {
            spin.note_sleep(5_000_000);
        }
        // It adapts after as many sleeps as it remembers.
        for _ in 0..=MEMORY {
            assert!(!spin.pays());
            spin.note_sleep(10_000);
        }
        assert!(spin.pays());
    }

    #[test]
    fn it_is_off_by_default() {
        assert!(!Spin::new(Duration::ZERO).is_on());
        assert_eq!(Spin::new(Duration::MAX).limit_ns(), u64::MAX);
    }
}
