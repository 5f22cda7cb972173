//! Ticks at a fixed period.

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

/// The typical duration of an operation of the [budget](crate::poll_proceed): 128 take about a millisecond.
///
/// A task that takes longer from one overdue tick to the next yields in between.
const OPERATION: Duration = Duration::from_micros(10);

/// Creates an [`Interval`] that ticks every `period`, for the first time at once.
///
/// # Panics
/// Panics if `period` is zero.
///
/// # References
/// `tokio::time::interval`.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let mut interval = polyloop::time::interval(Duration::from_millis(1));
/// let first = interval.tick().await;
/// assert!(interval.tick().await - first >= Duration::from_millis(1));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    Interval { starts_by: Some(current_clock()), ..interval_at(now(), period) }
}

/// Creates an [`Interval`] that ticks every `period`, for the first time at `start`.
///
/// # Panics
/// Panics if `period` is zero.
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
        missed: MissedTickBehavior::Burst,
        ticked_at: None,
        has_waited: false,
        starts_by: None,
    }
}

/// What an [`Interval`] does about ticks that were missed.
///
/// A tick is missed if [`Interval::tick`] is not awaited until the next one is due.
///
/// # References
/// `tokio::time::MissedTickBehavior`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::time::{MissedTickBehavior, interval};
///
/// # polyloop::run(async {
/// let mut interval = interval(Duration::from_millis(1));
/// interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
/// let first = interval.tick().await;
/// // The ticks that are missed during these 5 ms are skipped.
/// std::thread::sleep(Duration::from_millis(5));
/// interval.tick().await;
/// assert!(interval.tick().await >= first + Duration::from_millis(5));
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// Missed ticks are returned one after another without delay, until the interval has caught up.
    #[default]
    Burst,
    /// Missed ticks are dropped: the tick after a late one is due a period after that was returned.
    Delay,
    /// Missed ticks are dropped: the tick after a late one is due at the next multiple of the period.
    Skip,
}

/// Yields a tick every period. Created by [`interval`] and [`interval_at`].
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let interval = polyloop::time::interval(Duration::from_secs(1));
/// assert_eq!(interval.period(), Duration::from_secs(1));
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    /// When the next tick is due; `None` if that is later than the clock can represent.
    next: Option<Instant>,
    period: Duration,
    missed: MissedTickBehavior,
    /// When the last tick was returned.
    ticked_at: Option<Instant>,
    /// Whether the task has waited for the next tick, or has let other tasks run.
    has_waited: bool,
    /// The clock by which the first tick is due at once.
    starts_by: Option<ClockId>,
}

impl Interval {
    /// Sets what the interval does about missed ticks: [`MissedTickBehavior::Burst`] by default.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// Returns the period.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Waits for the next tick, and returns when it was due.
    ///
    /// A tick that is overdue takes one operation from the task's budget. If the task takes longer than the period
    /// from one tick to the next, then other tasks run, and timers and descriptors are checked, before each tick.
    ///
    /// # Panics
    /// Panics outside a runtime.
    ///
    /// # Cancel safety
    /// Cancel safe: a tick that was not returned is returned by the next call.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # polyloop::run(async {
    /// let mut interval = polyloop::time::interval(Duration::from_millis(1));
    /// let (first, second) = (interval.tick().await, interval.tick().await);
    /// assert_eq!(second - first, Duration::from_millis(1));
    /// # }).unwrap();
    /// ```
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick, as [`tick`](Interval::tick) does.
    ///
    /// # Panics
    /// Panics outside a runtime.
    #[track_caller]
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        let Some(mut due) = self.next else { return Poll::Pending };
        let mut came = now();
        if self.starts_by.take().is_some_and(|clock| clock != current_clock()) {
            due = came;
            self.next = Some(due);
        }
        if came < due {
            self.has_waited = true;
            ready!(Pin::new(&mut self.sleep).poll(cx));
            came = now();
        } else if !self.has_waited {
            // An overdue tick is returned at once, so that a burst does not cost a turn of the loop per tick,
            // unless the task itself takes the time.
            let last = self.ticked_at.unwrap_or(came);
            if came.saturating_duration_since(last) >= OPERATION {
                self.has_waited = true;
                cx.waker().wake_by_ref();
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

    /// Returns when the next tick is due, after one that was due at `due` and returned at `came`.
    fn after(&self, due: Instant, came: Instant) -> Option<Instant> {
        let next = due.checked_add(self.period)?;
        if came < next {
            return Some(next);
        }
        match self.missed {
            MissedTickBehavior::Burst => Some(next),
            MissedTickBehavior::Delay => came.checked_add(self.period),
            MissedTickBehavior::Skip => {
                let into_period = (came - due).as_nanos() % self.period.as_nanos();
                // Smaller than the period, which is a `Duration`.
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

    fn after(missed: MissedTickBehavior, late: Duration) -> Duration {
        let due = Instant::now();
        let mut interval = interval_at(due, SECOND);
        interval.set_missed_tick_behavior(missed);
        interval.after(due, due + late).unwrap() - due
    }

    #[test]
    fn a_punctual_tick_keeps_the_period_with_every_behavior() {
        for missed in
            [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
        {
            assert_eq!(after(missed, SECOND / 10), SECOND);
        }
    }

    #[test]
    fn each_behavior_treats_a_late_tick_differently() {
        let late = Duration::from_millis(2_500);
        assert_eq!(after(MissedTickBehavior::Burst, late), SECOND);
        assert_eq!(after(MissedTickBehavior::Delay, late), Duration::from_millis(3_500));
        assert_eq!(after(MissedTickBehavior::Skip, late), 3 * SECOND);
    }

    #[test]
    #[should_panic(expected = "above zero")]
    fn a_period_of_zero_is_refused() {
        drop(interval(Duration::ZERO));
    }
}
