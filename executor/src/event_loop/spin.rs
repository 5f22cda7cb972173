//! Looking a little longer before sleeping, while that pays.
//!
//! A processor that has halted takes some 35 µs to be back. A loop that looks again and again
//! instead of sleeping answers a client that waits for it three times as fast, and burns the
//! processor if nothing comes. So it spins only while it would lately have found something: what
//! it missed by sleeping, and what it found by spinning, are counted the same way.

use std::cell::Cell;
use std::time::Duration;

/// How long a sleep takes beyond the event that ends it. A sleep that ended within this and the
/// limit would have been spared.
const WAKE_COST_NS: u64 = 50_000;

/// How many times in a row spinning must fail, once it is known to pay, before it is given up,
/// and the other way round.
const MEMORY: i8 = 4;

/// Decides whether the loop spins before it sleeps.
#[derive(Debug)]
pub(crate) struct Spin {
    limit_ns: u64,
    /// Above zero while spinning pays.
    score: Cell<i8>,
}

impl Spin {
    pub(crate) fn new(limit: Duration) -> Spin {
        Spin { limit_ns: limit.as_nanos().try_into().unwrap_or(u64::MAX), score: Cell::new(0) }
    }

    /// Reports whether spinning was asked for at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limit_ns > 0
    }

    /// Reports whether it has lately paid.
    pub(crate) fn pays(&self) -> bool {
        self.score.get() > 0
    }

    pub(crate) fn limit_ns(&self) -> u64 {
        self.limit_ns
    }

    /// Notes how long the loop slept before something happened.
    pub(crate) fn note_sleep(&self, slept_ns: u64) {
        self.note(slept_ns <= self.limit_ns.saturating_add(WAKE_COST_NS));
    }

    /// Notes whether spinning found something.
    pub(crate) fn note(&self, paid: bool) {
        let score = self.score.get() + if paid { 1 } else { -1 };
        self.score.set(score.clamp(-MEMORY, MEMORY));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn short_sleeps_begin_it_and_failures_end_it() {
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
        // A change is noticed after as many sleeps as it is remembered.
        for _ in 0..=MEMORY {
            assert!(!spin.pays());
            spin.note_sleep(10_000);
        }
        assert!(spin.pays());
    }

    #[test]
    fn it_is_off_unless_asked_for() {
        assert!(!Spin::new(Duration::ZERO).is_on());
        assert_eq!(Spin::new(Duration::MAX).limit_ns(), u64::MAX);
    }
}
