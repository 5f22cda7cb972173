//! Delays between attempts.

use std::time::Duration;

/// Yields delays that double up to a maximum.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
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
