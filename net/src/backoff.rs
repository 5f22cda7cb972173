//! Delays between attempts.

use std::time::Duration;

use polyloop_executor::sleep;

/// Yields delays that double up to a maximum.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// For a Unix socket whose receiving queue is full. A receiver that is running takes a message
    /// or a connection within a millisecond.
    pub(crate) const FULL_QUEUE: Backoff =
        Backoff::new(Duration::from_millis(1), Duration::from_millis(64));

    /// Starts with the delay `first`.
    pub(crate) const fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first, max }
    }

    /// Returns the delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = self.max.min(delay * 2);
        delay
    }

    /// Waits for the next delay.
    pub(crate) async fn wait(&mut self) {
        sleep(self.next_delay()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(3), Duration::from_millis(10));
        let delays = [(); 4].map(|()| backoff.next_delay().as_millis());
        assert_eq!(delays, [3, 6, 10, 10]);
    }
}
