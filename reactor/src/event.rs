//! What a selector reports: [`Readiness`], an [`Event`], and the [`Events`] of one wait.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{BitOr, BitOrAssign};

use crate::Token;

/// The readiness of a descriptor, as a set of flags.
///
/// The flags are those that the operating system reports. An error or a hang-up has its own flag and does
/// not set the readable one. Use [`wakes_reader`](Readiness::wakes_reader) and
/// [`wakes_writer`](Readiness::wakes_writer) to decide whether to try an operation again: the next
/// read or write returns the error itself.
///
/// # Platform
/// select(2) has three flags only: readable, writable and exceptional. It reports a hang-up as readable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    // The numbers are those of POLLIN and so on, so that most of a translation is one instruction.

    /// Nothing is ready.
    pub const NONE: Readiness = Readiness(0);
    /// A read would not block.
    pub const READABLE: Readiness = Readiness(1);
    /// A write would not block.
    pub const WRITABLE: Readiness = Readiness(4);
    /// Out-of-band data is waiting.
    pub const PRIORITY: Readiness = Readiness(2);
    /// An error is pending (`POLLERR`).
    pub const ERROR: Readiness = Readiness(8);
    /// Both directions are closed (`POLLHUP`).
    pub const HANG_UP: Readiness = Readiness(16);
    /// The peer will send nothing more (`POLLRDHUP`, `EV_EOF` on the read filter).
    pub const READ_CLOSED: Readiness = Readiness(64);
    /// The descriptor is not open (`POLLNVAL`).
    pub const INVALID: Readiness = Readiness(32);

    /// Returns whether `self` contains all of `other`.
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether `self` contains any of `other`.
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether `self` is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the union of `self` and `other`.
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// Returns `self` without `other`.
    pub const fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }

    /// Returns whether a read would not block.
    pub const fn is_readable(self) -> bool {
        self.contains(Readiness::READABLE)
    }

    /// Returns whether a write would not block.
    pub const fn is_writable(self) -> bool {
        self.contains(Readiness::WRITABLE)
    }

    /// Returns whether out-of-band data is waiting.
    pub const fn is_priority(self) -> bool {
        self.contains(Readiness::PRIORITY)
    }

    /// Returns whether an error is pending.
    pub const fn is_error(self) -> bool {
        self.contains(Readiness::ERROR)
    }

    /// Returns whether both directions are closed.
    pub const fn is_hang_up(self) -> bool {
        self.contains(Readiness::HANG_UP)
    }

    /// Returns whether the peer will send nothing more.
    pub const fn is_read_closed(self) -> bool {
        self.contains(Readiness::READ_CLOSED)
    }

    /// Returns whether the descriptor is not open.
    pub const fn is_invalid(self) -> bool {
        self.contains(Readiness::INVALID)
    }

    /// Returns whether a reader should try again: there is data, the end of the stream, or an error.
    pub const fn wakes_reader(self) -> bool {
        self.intersects(Readiness(
            Readiness::READABLE.0
                | Readiness::PRIORITY.0
                | Readiness::ERROR.0
                | Readiness::HANG_UP.0
                | Readiness::READ_CLOSED.0
                | Readiness::INVALID.0,
        ))
    }

    /// Returns whether a writer should try again: there is room or an error.
    pub const fn wakes_writer(self) -> bool {
        self.intersects(Readiness(
            Readiness::WRITABLE.0
                | Readiness::ERROR.0
                | Readiness::HANG_UP.0
                | Readiness::INVALID.0,
        ))
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        self.union(other)
    }
}

impl BitOrAssign for Readiness {
    fn bitor_assign(&mut self, other: Readiness) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::PRIORITY, "PRIORITY"),
            (Readiness::ERROR, "ERROR"),
            (Readiness::HANG_UP, "HANG_UP"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::INVALID, "INVALID"),
        ];
        write_flags(f, names.map(|(flag, name)| (self.contains(flag), name)))
    }
}

/// The readiness of one descriptor in one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The token that the descriptor was registered with.
    pub token: Token,
    /// The readiness that is reported.
    pub readiness: Readiness,
}

/// The events of one wait, up to a fixed number.
///
/// The next waits report the events that do not fit.
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    capacity: NonZeroUsize,
    /// What ended the wait, if there are no events.
    empty_end: WaitEnd,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitEnd {
    /// There are events.
    Event,
    /// The timeout elapsed.
    Timeout,
    /// A signal interrupted the wait. To wait for the remaining time, call `select` again with the
    /// remaining timeout.
    Signal,
    /// A [`Notifier`](crate::Notifier) ended the wait.
    Notification,
}

impl Events {
    /// Creates a list with room for `capacity` events.
    ///
    /// # Panics
    /// Panics if `capacity` is zero.
    #[track_caller]
    pub fn with_capacity(capacity: usize) -> Events {
        let capacity = NonZeroUsize::new(capacity).expect("a wait needs room for an event");
        Events { list: Vec::with_capacity(capacity.get()), capacity, empty_end: WaitEnd::Timeout }
    }

    /// Returns the largest number of events that one wait can report.
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns whether no further event fits.
    pub fn is_full(&self) -> bool {
        self.list.len() >= self.capacity.get()
    }

    /// Returns what ended the wait.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::selectors::{Events, WaitEnd, default_selector};
    ///
    /// let mut selector = default_selector()?;
    /// let mut events = Events::with_capacity(8);
    /// selector.select(&mut events, Some(Duration::from_millis(1)))?;
    /// assert_eq!(events.wait_end(), WaitEnd::Timeout);
    ///
    /// selector.notifier()?.notify()?;
    /// selector.select(&mut events, None)?;
    /// assert_eq!(events.wait_end(), WaitEnd::Notification);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_end(&self) -> WaitEnd {
        if self.is_empty() { self.empty_end } else { WaitEnd::Event }
    }

    /// Sets what ended a wait that has no events and did not time out. For selectors.
    pub fn set_wait_end(&mut self, end: WaitEnd) {
        self.empty_end = end;
    }

    /// Iterates over the events, in the order in which the selector found them.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.list.iter()
    }

    /// Removes all events and sets the end of the wait to [`WaitEnd::Timeout`]. For selectors, at the start of
    /// a wait.
    pub fn clear(&mut self) {
        self.list.clear();
        self.empty_end = WaitEnd::Timeout;
    }

    /// Adds an event. For selectors, which check [`is_full`](Events::is_full) first.
    pub fn push(&mut self, event: Event) {
        debug_assert!(!self.is_full(), "a selector reported more events than fit");
        self.list.push(event);
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = std::slice::Iter<'a, Event>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Writes the names of the flags that are set, joined by ` | `.
pub(crate) fn write_flags<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    flags: [(bool, &str); N],
) -> fmt::Result {
    let mut separator = "";
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        write!(f, "{separator}{name}")?;
        separator = " | ";
    }
    if separator.is_empty() { f.write_str("NONE") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_wake_both_directions_and_set_neither_flag() {
        for state in [Readiness::ERROR, Readiness::HANG_UP, Readiness::INVALID] {
            assert!(state.wakes_reader() && state.wakes_writer(), "{state:?}");
            assert!(!state.is_readable() && !state.is_writable(), "{state:?}");
        }
    }

    #[test]
    fn a_closed_read_side_wakes_readers_only() {
        assert!(Readiness::READ_CLOSED.wakes_reader());
        assert!(!Readiness::READ_CLOSED.wakes_writer());
    }

    #[test]
    #[should_panic(expected = "room for an event")]
    fn no_room_at_all_is_refused() {
        drop(Events::with_capacity(0));
    }
}
