//! [`PollableFd`]: a descriptor for a host to watch.

use std::os::fd::RawFd;

use crate::{Interest, sys};

/// A descriptor for a host to watch, with its interest.
///
/// [`Selector::pollable_fds`](crate::Selector::pollable_fds) lists them. The selector owns the
/// descriptor, and the number is valid for one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollableFd {
    /// The descriptor's number.
    pub fd: RawFd,
    /// The readiness to watch it for.
    pub interest: Interest,
}

impl PollableFd {
    /// Returns the interest as the `events` of a `pollfd`, for poll(2).
    ///
    /// # Examples
    /// ```
    /// use polyloop::selectors::{Interest, PollableFd};
    ///
    /// let reading = PollableFd { fd: 0, interest: Interest::READABLE };
    /// let both = PollableFd { fd: 0, interest: Interest::READABLE | Interest::WRITABLE };
    /// assert_ne!(reading.poll_events(), 0);
    /// assert_eq!(both.poll_events() & reading.poll_events(), reading.poll_events());
    /// ```
    pub fn poll_events(self) -> i16 {
        sys::selectors::poll_events(self.interest)
    }
}
