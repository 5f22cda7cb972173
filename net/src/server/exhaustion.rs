//! Backing off while file descriptors or memory are exhausted.

use std::fs::File;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use polyloop_executor::{Sleep, sleep};

use crate::backoff::Backoff;

/// The first delay.
///
/// Short enough that a spike goes unnoticed, and long enough that a full descriptor table costs a
/// few hundred attempts a second at most.
const FIRST_DELAY: Duration = Duration::from_millis(5);

/// The longest delay: how late the server notices that another process has released what was exhausted. A
/// connection of the server that ends cuts the delay short.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The delay between two attempts to accept.
pub(super) struct Pause {
    backoff: Backoff,
    sleep: Option<Sleep>,
}

impl Pause {
    pub(super) fn new() -> Pause {
        Pause { backoff: Backoff::new(FIRST_DELAY, MAX_DELAY), sleep: None }
    }

    /// Starts the next delay, and has the task woken when it is over.
    pub(super) fn start(&mut self, cx: &mut Context<'_>) {
        let mut sleep = sleep(self.backoff.next_delay());
        if Pin::new(&mut sleep).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.sleep = Some(sleep);
    }

    /// Polls until the delay is over. Ready if none was started.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) => Pin::new(sleep).poll(cx),
            None => Poll::Ready(()),
        }
    }

    /// Ends the series of failed attempts: the next delay is the first one again.
    pub(super) fn reset(&mut self) {
        *self = Pause::new();
    }
}

/// A descriptor that is kept open, to be closed when no other is available.
///
/// With it a waiting client can be accepted and its connection closed, when the alternative is to leave it
/// waiting.
pub(super) struct ReserveFd(Option<File>);

impl ReserveFd {
    pub(super) fn new() -> ReserveFd {
        let mut reserve = ReserveFd(None);
        reserve.refill();
        reserve
    }

    /// Opens the descriptor again, if one is available.
    pub(super) fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Closes the descriptor. Returns whether it was open.
    pub(super) fn release(&mut self) -> bool {
        self.0.take().is_some()
    }
}
