//! Waiting for a deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::clock::{NEVER_NS, now};
use crate::mailbox::{self, Mail};
use crate::no_runtime::no_runtime;
use crate::timer_heap::TimerKey;
use crate::waker::{clone_of, current, drop_of};

/// Waits for `duration`, from now on.
///
/// Any duration is legal: zero gives way once, and one that ends later than the clock can tell
/// never ends.
///
/// # Panics
/// When polled outside a loop.
///
/// # Cancel safety
/// Nothing is lost.
///
/// # References
/// Python's `asyncio.sleep`.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// # polyloop_executor::run(async {
/// let start = Instant::now();
/// polyloop_executor::sleep(Duration::from_micros(500)).await;
/// assert!(start.elapsed() >= Duration::from_micros(500));
/// # }).unwrap();
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { deadline: now().checked_add(duration), timer: None }
}

/// Waits until `deadline`; one in the past gives way once.
///
/// # Panics
/// When polled outside a loop.
///
/// # Cancel safety
/// Nothing is lost.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop_executor::{now, sleep_until};
///
/// # polyloop_executor::run(async {
/// let deadline = now() + Duration::from_millis(1);
/// sleep_until(deadline).await;
/// assert!(now() >= deadline);
/// # }).unwrap();
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: Some(deadline), timer: None }
}

/// Is ready at its deadline, never before. Made by [`sleep`] and [`sleep_until`].
///
/// It is a few numbers, and may be polled on one loop and then on another.
///
/// # Examples
/// ```
/// use std::pin::pin;
/// use std::time::Duration;
/// use polyloop_executor::{now, sleep};
///
/// # polyloop_executor::run(async {
/// // It can be awaited again and again, and moved.
/// let mut idle = pin!(sleep(Duration::from_secs(60)));
/// idle.reset(now() + Duration::from_millis(1));
/// idle.await;
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    /// None is never.
    deadline: Option<Instant>,
    timer: Option<Timer>,
}

/// Names a timer among those of all loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    key: TimerKey,
    number: u16,
    incarnation: u32,
}

impl Sleep {
    /// Returns the deadline; none if it is beyond what the clock can tell.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// assert_eq!(polyloop_executor::sleep(Duration::MAX).deadline(), None);
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Moves the deadline, earlier or later, also after it was reached.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop_executor::{now, sleep};
    ///
    /// # polyloop_executor::run(async {
    /// let mut nap = sleep(Duration::from_secs(60));
    /// nap.reset(now());
    /// nap.await;
    /// # }).unwrap();
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = Some(deadline);
    }

    /// Forgets the timer, here or on the loop where it was armed.
    fn disarm(&mut self) {
        let Some(timer) = self.timer.take() else { return };
        let here = current(|event_loop| {
            let home = timer.number == event_loop.number();
            if home && timer.incarnation == event_loop.incarnation() {
                event_loop.cancel_timer(timer.key);
            }
            home
        });
        if here != Some(true) {
            let letter = Mail::CancelTimer(timer.key.raw());
            mailbox::send_to(timer.number, timer.incarnation, letter);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let waker = clone_of(cx.waker());
        let polled = current(|event_loop| {
            let (number, incarnation) = (event_loop.number(), event_loop.incarnation());
            let mut timers = event_loop.timers.borrow_mut();
            if let Some(timer) = self.timer
                && (timer.number, timer.incarnation) == (number, incarnation)
            {
                if !timers.is_armed(timer.key) {
                    // It has fired, and only the deadline fires it.
                    return (Poll::Ready(()), Some(waker), None);
                }
                return (Poll::Pending, timers.set_waker(timer.key, waker), None);
            }
            let deadline_ns = event_loop.clock.ns_of(deadline);
            if deadline_ns == NEVER_NS {
                return (Poll::Pending, Some(waker), None);
            }
            let key = timers.arm(deadline_ns, waker);
            (Poll::Pending, None, Some(Timer { key, number, incarnation }))
        });
        let Some((poll, unused, armed)) = polled else { no_runtime("a `Sleep` was polled") };
        // Outside the borrow: the waker may be foreign.
        drop_of(unused);
        if armed.is_some() {
            // It may have been armed on another loop before.
            self.disarm();
            self.timer = armed;
        }
        poll
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}
