//! The future that waits for a deadline.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::event_loop::mailbox::{self, Address, Command};
use crate::raw::current::current;
use crate::running::{poll_proceed, read_clock};
use crate::runtime::no_runtime::no_runtime;
use crate::tasks::wakers::{clone_of, drop_of};
use crate::time::clock::{ClockId, instant_of, later, ns_of};
use crate::time::timer_heap;
use crate::time::timer_slots::TimerSlot;

/// Waits until `duration` has elapsed, counted from this call.
///
/// Any duration is valid. Zero yields once, and a duration that exceeds the range of the clock never elapses.
///
/// A sleep that is created with one clock and polled with another, because one of two loops has
/// [virtual time](crate::Builder::virtual_time), counts from its first poll instead.
///
/// # Panics
/// Panics if polled outside a runtime, or if the runtime has 16,777,216 timers.
///
/// # Cancel safety
/// Dropping the future cancels the timer and has no other effect.
///
/// # References
/// Python's `asyncio.sleep`.
///
/// # Examples
/// ```
/// use std::time::{Duration, Instant};
///
/// # polyloop::run(async {
/// let start = Instant::now();
/// polyloop::sleep(Duration::from_micros(500)).await;
/// assert!(start.elapsed() >= Duration::from_micros(500));
/// # }).unwrap();
/// ```
pub fn sleep(duration: Duration) -> Sleep {
    let (made_ns, clock) = read_clock();
    Sleep { deadline_ns: later(made_ns, duration), state: State::New { clock, made_ns } }
}

/// Waits until `deadline` is reached. A deadline in the past yields once.
///
/// # Panics
/// Panics if polled outside a runtime, or if the runtime has 16,777,216 timers.
///
/// # Cancel safety
/// Dropping the future cancels the timer and has no other effect.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::time::{now, sleep_until};
///
/// # polyloop::run(async {
/// let deadline = now() + Duration::from_millis(1);
/// sleep_until(deadline).await;
/// assert!(now() >= deadline);
/// # }).unwrap();
/// ```
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline_ns: ns_of(deadline), state: State::Idle }
}

/// The future returned by [`sleep`] and [`sleep_until`]. Completes at its deadline, and never before.
///
/// A sleep may be polled on one loop and then on another.
///
/// # Examples
/// ```
/// use std::pin::pin;
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::time::now;
///
/// # polyloop::run(async {
/// // It can be reset, and awaited repeatedly.
/// let mut idle = pin!(sleep(Duration::from_secs(60)));
/// idle.reset(now() + Duration::from_millis(1));
/// idle.await;
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    /// In nanoseconds of the clock that all loops share.
    deadline_ns: u64,
    state: State,
}

/// ```text
/// [ New ] ── poll ──┐
///            poll   ▼                   poll, after the deadline
/// [ Idle ] ────────▶ [ Armed ] ──────────────────────────────────▶ [ Over ]
///    ▲                  │ ▲ │ reset, where it is armed                 │
///    │                  │ └─┘                                          │
///    └──────────────────┴─── reset, after the deadline or elsewhere ───┘
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    /// The deadline is that much after the time `made_ns` of this clock.
    New {
        clock: ClockId,
        made_ns: u64,
    },
    /// The deadline is an instant.
    Idle,
    /// The timer is in this slot of the loop at this address.
    Armed {
        slot: TimerSlot,
        address: Address,
    },
    Over,
}

impl Sleep {
    /// Returns the deadline, or `None` if it exceeds the range of the clock.
    ///
    /// Before the first poll, the deadline refers to the clock of the thread that created the sleep.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// assert_eq!(polyloop::sleep(Duration::MAX).deadline(), None);
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        instant_of(self.deadline_ns)
    }

    /// Changes the deadline to an earlier or later one, even after the sleep has elapsed.
    ///
    /// A task that awaits the sleep is woken at the new deadline. `reset` may be called in another task, on another loop
    /// or on a plain thread.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::sleep;
    /// use polyloop::time::now;
    ///
    /// # polyloop::run(async {
    /// let mut nap = sleep(Duration::from_secs(60));
    /// nap.reset(now());
    /// nap.await;
    /// # }).unwrap();
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.deadline_ns = ns_of(deadline);
        let State::Armed { slot, address } = self.state else {
            self.state = State::Idle;
            return;
        };
        let here = current(|event_loop| {
            (address == event_loop.address())
                .then(|| event_loop.reset_timer(slot, self.deadline_ns))
        });
        match here.flatten() {
            Some(true) => {}
            // It has fired, so the waiting task has been woken and will arm it again.
            Some(false) => self.state = State::Idle,
            // The same by a message, because only the timer's loop may change it.
            None => {
                self.state = State::Idle;
                mailbox::send_to(address, Command::MoveTimer(slot));
            }
        }
    }

    /// Changes the deadline of a sleep that no task awaits.
    pub(super) fn restart(&mut self, deadline: Instant) {
        self.disarm();
        self.state = State::Idle;
        self.deadline_ns = ns_of(deadline);
    }

    /// Cancels the timer, on this loop or on the one where it was armed.
    #[inline]
    fn disarm(&self) {
        let State::Armed { slot, address } = self.state else { return };
        let here = current(|event_loop| {
            let here = address == event_loop.address();
            if here {
                event_loop.cancel_timer(slot);
            }
            here
        });
        if here != Some(true) {
            mailbox::send_to(address, Command::CancelTimer(slot));
        }
    }
}

/// The result of a poll, and a waker to drop after the borrow has ended.
enum Polled {
    Over(Waker),
    /// The timer was already armed.
    Waiting(Option<Waker>),
    Armed(TimerSlot, Address),
    Full(Waker),
}

impl Sleep {
    #[inline]
    fn poll_on(&mut self, event_loop: &EventLoop, waker: Waker) -> Polled {
        if let State::Armed { slot, address } = self.state
            && address == event_loop.address()
        {
            return match event_loop.poll_timer(slot, waker) {
                // Only the deadline fires it.
                timer_heap::Polled::Fired(waker) => Polled::Over(waker),
                timer_heap::Polled::Armed(old) => Polled::Waiting(old),
            };
        }
        let deadline_ns = match self.state {
            State::New { clock, made_ns } if clock != event_loop.clock().id() => {
                event_loop.clock().shift(self.deadline_ns, made_ns)
            }
            _ => self.deadline_ns,
        };
        // A sleep that never elapses may be reset while it is awaited, so it has a timer as well.
        match event_loop.arm_timer(deadline_ns, waker) {
            Ok(slot) => {
                self.deadline_ns = deadline_ns;
                Polled::Armed(slot, event_loop.address())
            }
            Err(waker) => Polled::Full(waker),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Over = self.state {
            // It was pending before it was over for the first time, but not since.
            ready!(poll_proceed(cx));
            return Poll::Ready(());
        }
        let waker = clone_of(cx.waker());
        let polled = current(|event_loop| self.poll_on(event_loop, waker));
        let Some(polled) = polled else { no_runtime("a `Sleep` was polled") };
        match polled {
            Polled::Over(waker) => {
                self.state = State::Over;
                drop_of(Some(waker));
                Poll::Ready(())
            }
            Polled::Waiting(old) => {
                drop_of(old);
                Poll::Pending
            }
            Polled::Armed(slot, address) => {
                if let State::Armed { .. } = self.state {
                    // On another loop, before.
                    self.disarm();
                }
                self.state = State::Armed { slot, address };
                Poll::Pending
            }
            Polled::Full(waker) => {
                drop_of(Some(waker));
                panic!("a loop holds 16,777,216 timers");
            }
        }
    }
}

impl Drop for Sleep {
    #[inline]
    fn drop(&mut self) {
        self.disarm();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::poll_fn;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::{Builder, now, run, spawn};

    async fn poll_once(nap: &mut Sleep) {
        poll_fn(|cx| {
            assert!(Pin::new(&mut *nap).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[test]
    fn a_timer_too_many_is_a_panic_of_the_task_that_polls_and_of_nothing_else() {
        run(async {
            // The limit of 16,777,216, in small.
            current(|event_loop| event_loop.limit_timers(1));
            let mut naps: Vec<_> = (0..4_096).map(|_| sleep(Duration::from_secs(3_600))).collect();
            for nap in &mut naps {
                poll_once(nap).await;
            }
            let error = spawn(sleep(Duration::ZERO)).await.unwrap_err();
            assert!(error.is_panic());
            assert_eq!(crate::metrics().timers, 4_096);
            naps.pop();
            sleep(Duration::from_millis(1)).await;
        })
        .unwrap();
    }

    #[test]
    fn a_sleep_that_has_found_no_free_timer_keeps_its_duration() {
        const DURATION: Duration = Duration::from_secs(60);
        // By the clock of this thread.
        let mut nap = sleep(DURATION);
        let runtime = Builder::new().virtual_time(true).build().unwrap();
        let waited = runtime.block_on(async {
            sleep(Duration::from_secs(86_400)).await;
            current(|event_loop| event_loop.limit_timers(1));
            let mut others: Vec<_> =
                (0..4_096).map(|_| sleep(Duration::from_secs(3_600))).collect();
            for other in &mut others {
                poll_once(other).await;
            }
            poll_fn(|cx| {
                let poll = AssertUnwindSafe(|| Pin::new(&mut nap).poll(cx));
                Poll::Ready(catch_unwind(poll).unwrap_err())
            })
            .await;
            drop(others);
            let start = now();
            nap.await;
            now() - start
        });
        assert_eq!(waited.unwrap(), DURATION);
    }

    #[test]
    fn a_sleep_is_twenty_four_bytes_at_most() {
        // Fewer where pointers have 32 bits.
        assert!(size_of::<Sleep>() <= 24, "{}", size_of::<Sleep>());
    }
}
