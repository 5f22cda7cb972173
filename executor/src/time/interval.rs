//! A steady beat.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::{Sleep, sleep_until};
use crate::clock::now;

/// Beats every `period`, the first time at once.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop_executor::run(async {
/// let mut beat = polyloop_executor::interval(Duration::from_millis(1));
/// let first = beat.tick().await;
/// assert!(beat.tick().await - first >= Duration::from_millis(1));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(now(), period)
}

/// Beats every `period`, the first time at `start`.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop_executor::{interval_at, now};
///
/// # polyloop_executor::run(async {
/// let start = now() + Duration::from_millis(1);
/// assert_eq!(interval_at(start, Duration::from_secs(60)).tick().await, start);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval { sleep: sleep_until(start), next: Some(start), period, missed: MissedTicks::Burst }
}

/// Says what becomes of ticks that came while nobody listened.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop_executor::{MissedTicks, interval};
///
/// # polyloop_executor::run(async {
/// let mut beat = interval(Duration::from_millis(1)).missed_ticks(MissedTicks::Skip);
/// let first = beat.tick().await;
/// // The beats of a stall of 5 ms are not made up for.
/// std::thread::sleep(Duration::from_millis(5));
/// beat.tick().await;
/// assert!(beat.tick().await >= first + Duration::from_millis(5));
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTicks {
    /// Each is made up for, one at a time, until the beat is reached again.
    #[default]
    Burst,
    /// They are dropped, and the beat begins anew: the next comes a period after the late one.
    Delay,
    /// They are dropped, and the beat is kept: the next comes at the next multiple of the period.
    Skip,
}

/// Ticks at a steady beat. Made by [`interval`] and [`interval_at`].
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop_executor::run(async {
/// let beat = polyloop_executor::interval(Duration::from_secs(1));
/// assert_eq!(beat.period(), Duration::from_secs(1));
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    /// When the next tick is due; none is never.
    next: Option<Instant>,
    period: Duration,
    missed: MissedTicks,
}

impl Interval {
    /// Sets what becomes of missed ticks.
    pub fn missed_ticks(mut self, missed: MissedTicks) -> Interval {
        self.missed = missed;
        self
    }

    /// Returns the period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next tick and returns when it was due.
    ///
    /// # Panics
    /// Outside a loop.
    ///
    /// # Cancel safety
    /// No tick is lost: one that was not returned comes in the next call.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # polyloop_executor::run(async {
    /// let mut beat = polyloop_executor::interval(Duration::from_millis(1));
    /// let (first, second) = (beat.tick().await, beat.tick().await);
    /// assert_eq!(second - first, Duration::from_millis(1));
    /// # }).unwrap();
    /// ```
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick.
    ///
    /// # Panics
    /// Outside a loop.
    #[track_caller]
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(due) = self.next else { return Poll::Pending };
        // A tick that is overdue is returned at once, so that a burst does not give way between.
        let late = now();
        if late < due {
            ready!(Pin::new(&mut self.sleep).poll(cx));
        }
        self.next = self.after(due, now());
        if let Some(next) = self.next {
            self.sleep.reset(next);
        }
        Poll::Ready(due)
    }

    /// Returns when the tick after the one that was due at `due` and came at `came` is due.
    fn after(&self, due: Instant, came: Instant) -> Option<Instant> {
        let next = due.checked_add(self.period)?;
        if came < next {
            return Some(next);
        }
        match self.missed {
            MissedTicks::Burst => Some(next),
            MissedTicks::Delay => came.checked_add(self.period),
            MissedTicks::Skip => {
                let into_period = (came - due).as_nanos() % self.period.as_nanos();
                // Smaller than the period, which came from a `Duration`.
                let secs = (into_period / 1_000_000_000) as u64;
                let into_period = Duration::new(secs, (into_period % 1_000_000_000) as u32);
                came.checked_add(self.period - into_period)
            }
        }
    }
}

impl Stream for Interval {
    type Item = Instant;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Instant>> {
        self.poll_tick(cx).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(missed: MissedTicks, late: Duration) -> Duration {
        let due = Instant::now();
        let beat = interval_at(due, SECOND).missed_ticks(missed);
        beat.after(due, due + late).unwrap() - due
    }

    #[test]
    fn a_punctual_tick_keeps_the_beat_under_every_policy() {
        for missed in [MissedTicks::Burst, MissedTicks::Delay, MissedTicks::Skip] {
            assert_eq!(after(missed, SECOND / 10), SECOND);
        }
    }

    #[test]
    fn each_policy_treats_a_late_tick_its_own_way() {
        let late = Duration::from_millis(2_500);
        assert_eq!(after(MissedTicks::Burst, late), SECOND);
        assert_eq!(after(MissedTicks::Delay, late), Duration::from_millis(3_500));
        assert_eq!(after(MissedTicks::Skip, late), 3 * SECOND);
    }

    #[test]
    #[should_panic(expected = "above zero")]
    fn a_period_of_zero_is_refused() {
        drop(interval(Duration::ZERO));
    }
}
