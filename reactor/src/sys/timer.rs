//! A timer as a descriptor: a timerfd, or a kqueue of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::os;

/// A descriptor that becomes readable after a delay, until it is set again.
///
/// After a day or more it may become readable early, since not all systems can count longer.
#[derive(Debug)]
pub(crate) struct TimerFd(OwnedFd);

impl TimerFd {
    /// Opens a timer that is not set.
    pub(crate) fn new() -> io::Result<TimerFd> {
        os::open_timer().map(TimerFd)
    }

    /// Makes the descriptor unreadable until `delay` has passed, or until the next call if it is `None`.
    pub(crate) fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        // Zero would mean to unset it.
        let delay = delay.map(|delay| delay.max(Duration::from_nanos(1)));
        os::set_timer(&self.0, delay)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crate::{Backend, Events, Interest, Mode, Token};

    use super::*;

    fn wait(timer: &TimerFd, timeout: Duration) -> bool {
        let mut poll = Backend::Poll.open().unwrap();
        poll.register(timer.as_fd(), Token::from_raw(1), Interest::READABLE, Mode::Level).unwrap();
        let mut events = Events::with_capacity(1);
        poll.select(&mut events, Some(timeout)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn a_timer_is_readable_from_its_time_on_until_it_is_set_again() {
        let timer = TimerFd::new().unwrap();
        assert!(!wait(&timer, Duration::from_millis(2)));
        let start = Instant::now();
        timer.set(Some(Duration::from_millis(5))).unwrap();
        for _ in 0..2 {
            assert!(wait(&timer, Duration::from_secs(60)));
        }
        assert!(start.elapsed() >= Duration::from_millis(5));
        timer.set(Some(Duration::from_secs(3_600))).unwrap();
        assert!(!wait(&timer, Duration::ZERO));
        timer.set(Some(Duration::ZERO)).unwrap();
        assert!(wait(&timer, Duration::from_secs(60)));
        timer.set(None).unwrap();
        assert!(!wait(&timer, Duration::ZERO));
        timer.set(Some(Duration::MAX)).unwrap();
        assert!(!wait(&timer, Duration::ZERO));
    }
}
