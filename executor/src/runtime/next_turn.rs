//! [`NextTurn`]: when a host has to run the next turn.

use std::time::{Duration, Instant};

/// The time at which the next [`turn`](crate::Runtime::turn) of a loop is due.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{Runtime, sleep};
/// use polyloop::runtime::NextTurn;
///
/// let runtime = Runtime::new()?;
/// assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
/// runtime.spawn(sleep(Duration::from_secs(60)));
/// // The task is ready: it has not been polled.
/// assert_eq!(runtime.next_turn(), NextTurn::Now);
/// let next = runtime.turn(Some(Duration::ZERO), Duration::from_millis(5))?;
/// assert!(matches!(next, NextTurn::At(_)));
/// assert!((59_000..=60_000).contains(&next.timeout_ms()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// Now: tasks are ready, messages have arrived, events are left, or a timer is due.
    Now,
    /// At this time, which is the earliest timer's deadline, or at the next event.
    At(Instant),
    /// At the next event: a descriptor becomes ready, or another thread wakes a task or sends a message.
    OnEvent,
}

impl NextTurn {
    /// Returns how long the host may wait for an event: zero if the turn is due, or `None` if there is no limit.
    pub fn timeout(self) -> Option<Duration> {
        match self {
            NextTurn::Now => Some(Duration::ZERO),
            NextTurn::At(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            NextTurn::OnEvent => None,
        }
    }

    /// Returns the timeout in milliseconds for poll(2), epoll_wait(2) and most event loops: -1 means no limit.
    ///
    /// The timeout is rounded up, so that the host does not wake before the deadline and run turns without events.
    pub fn timeout_ms(self) -> i32 {
        match self.timeout() {
            Some(timeout) => timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i32::MAX),
            None => -1,
        }
    }

    /// Returns whether the turn is due now.
    pub fn is_due(self) -> bool {
        self.timeout() == Some(Duration::ZERO)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_bounded() {
        let now = Instant::now();
        assert_eq!(NextTurn::Now.timeout_ms(), 0);
        assert_eq!(NextTurn::OnEvent.timeout_ms(), -1);
        assert_eq!(NextTurn::At(now).timeout_ms(), 0);
        let soon = NextTurn::At(Instant::now() + Duration::from_micros(900_100)).timeout_ms();
        assert!((1..=901).contains(&soon), "{soon}");
        let far = NextTurn::At(now + Duration::from_secs(100 * 86_400));
        assert_eq!(far.timeout_ms(), i32::MAX);
    }

    #[test]
    fn less_than_a_millisecond_is_one() {
        // The clock moves on meanwhile, so it may take several attempts.
        let is_one = |_| {
            let next = NextTurn::At(Instant::now() + Duration::from_micros(500));
            next.timeout_ms() == 1
        };
        assert!((0..1_000).any(is_one));
    }
}
