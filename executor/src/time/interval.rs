//! A steady beat.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;

use super::{Sleep, sleep_until};
use crate::event_loop::EventLoop;
use crate::raw::current::current;
use crate::running::poll_proceed;
use crate::running::{current_clock, now};
use crate::time::clock::ClockId;

/// How long an operation of the [budget](crate::poll_proceed) takes: 128 are about a millisecond.
///
/// If a task takes longer from one tick to the next, and is late, it lets others run between.
const OPERATION: Duration = Duration::from_micros(10);

/// Beats every `period`, the first time at once.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let mut beat = polyloop::time::interval(Duration::from_millis(1));
/// let first = beat.tick().await;
/// assert!(beat.tick().await - first >= Duration::from_millis(1));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval { begins_by: Some(current_clock()), ..interval_at(now(), period) }
}

/// Beats every `period`, the first time at `start`.
///
/// # Panics
/// If `period` is zero.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::time::{interval_at, now};
///
/// # polyloop::run(async {
/// let start = now() + Duration::from_millis(1);
/// assert_eq!(interval_at(start, Duration::from_secs(60)).tick().await, start);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval needs a period above zero");
    Interval {
        sleep: sleep_until(start),
        next: Some(start),
        period,
        missed: MissedTicks::Burst,
        ticked_at: None,
        has_waited: false,
        begins_by: None,
    }
}

/// Says what becomes of ticks that came while nobody listened.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::time::{MissedTicks, interval};
///
/// # polyloop::run(async {
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
/// # polyloop::run(async {
/// let beat = polyloop::time::interval(Duration::from_secs(1));
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
    /// When the last tick was returned.
    ticked_at: Option<Instant>,
    /// The next tick has been waited for already, or has let others run.
    has_waited: bool,
    /// The clock by which the first tick is due at once.
    begins_by: Option<ClockId>,
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
    /// Ticks that are overdue take from the task's budget. If what the task does between two ticks
    /// takes longer than the period, other tasks run before each tick, and timers and descriptors are checked.
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
    /// # polyloop::run(async {
    /// let mut beat = polyloop::time::interval(Duration::from_millis(1));
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
        let Some(mut due) = self.next else { return Poll::Pending };
        let mut came = now();
        if self.begins_by.take().is_some_and(|clock| clock != current_clock()) {
            due = came;
            self.next = Some(due);
        }
        if came < due {
            self.has_waited = true;
            ready!(Pin::new(&mut self.sleep).poll(cx));
            came = now();
        } else if !self.has_waited {
            // It is overdue, and returned at once, so that a burst does not cost a turn for each tick.
            // Not so if it is the task itself that takes the time.
            let last = self.ticked_at.unwrap_or(came);
            if came.saturating_duration_since(last) >= OPERATION {
                self.has_waited = true;
                cx.waker().wake_by_ref();
                // Timers and descriptors are others, too.
                current(EventLoop::poll_events_soon);
                return Poll::Pending;
            }
            ready!(poll_proceed(cx));
        }
        self.has_waited = false;
        self.ticked_at = Some(came);
        self.next = self.after(due, came);
        if let Some(next) = self.next {
            self.sleep.restart(next);
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
