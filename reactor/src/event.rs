//! What the operating system told: [`Readiness`] of one descriptor, an [`Event`], a batch of
//! [`Events`].

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{BitOr, BitOrAssign};

use crate::Token;

/// Tells what a descriptor is ready for, each fact apart from the others.
///
/// The flags are what the operating system said, no more. Errors and hang-ups are facts of
/// their own and do not set the readable flag; ask [`wakes_reader`](Readiness::wakes_reader) and
/// [`wakes_writer`](Readiness::wakes_writer) whether somebody who waits should try again, since
/// the next read or write is what reports the real error.
///
/// # Platform
/// select(2) knows readable, writable and exceptional only: a hang-up is readable there.
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

    /// Reports whether all of `other` is told.
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Reports whether any of `other` is told.
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Reports whether nothing is told.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns what is told here or in `other`.
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// Returns what is told here and not in `other`.
    pub const fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }

    /// Reports whether a read would not block.
    pub const fn is_readable(self) -> bool {
        self.contains(Readiness::READABLE)
    }

    /// Reports whether a write would not block.
    pub const fn is_writable(self) -> bool {
        self.contains(Readiness::WRITABLE)
    }

    /// Reports whether out-of-band data is waiting.
    pub const fn is_priority(self) -> bool {
        self.contains(Readiness::PRIORITY)
    }

    /// Reports whether an error is pending.
    pub const fn is_error(self) -> bool {
        self.contains(Readiness::ERROR)
    }

    /// Reports whether both directions are closed.
    pub const fn is_hang_up(self) -> bool {
        self.contains(Readiness::HANG_UP)
    }

    /// Reports whether the peer will send nothing more.
    pub const fn is_read_closed(self) -> bool {
        self.contains(Readiness::READ_CLOSED)
    }

    /// Reports whether the descriptor turned out not to be open.
    pub const fn is_invalid(self) -> bool {
        self.contains(Readiness::INVALID)
    }

    /// Reports whether a reader should try again: data, end of stream or an error awaits it.
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

    /// Reports whether a writer should try again: room or an error awaits it.
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

/// Reports one descriptor's readiness in one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// The token that the descriptor was registered with.
    pub token: Token,
    /// What it is ready for.
    pub readiness: Readiness,
}

/// Collects the events of one wait, up to a fixed number.
///
/// What does not fit stays with the selector and comes first in a later wait.
#[derive(Debug)]
pub struct Events {
    list: Vec<Event>,
    capacity: NonZeroUsize,
    /// What has ended the wait, if there are no events.
    empty_end: WaitEnd,
}

/// Tells what has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitEnd {
    /// Something is ready: there are events.
    Event,
    /// The timeout has passed.
    Timeout,
    /// A signal has interrupted the wait. A program that wants to wait for the rest of the timeout
    /// waits again, with what is left of it.
    Signal,
    /// A [`Notifier`](crate::Notifier) has ended the wait.
    Notification,
}

impl Events {
    /// Makes room for `capacity` events in one wait.
    ///
    /// # Panics
    /// If `capacity` is zero.
    #[track_caller]
    pub fn with_capacity(capacity: usize) -> Events {
        let capacity = NonZeroUsize::new(capacity).expect("a wait needs room for an event");
        Events { list: Vec::with_capacity(capacity.get()), capacity, empty_end: WaitEnd::Timeout }
    }

    /// Returns the number of events that one wait can report.
    pub fn capacity(&self) -> usize {
        self.capacity.get()
    }

    /// Returns the number of events reported.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Reports whether the wait ended without an event.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Reports whether no further event fits.
    pub fn is_full(&self) -> bool {
        self.list.len() >= self.capacity.get()
    }

    /// Returns what has ended the wait.
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

    /// Notes what has ended a wait without events, other than its timeout. Selectors call it.
    pub fn set_wait_end(&mut self, end: WaitEnd) {
        self.empty_end = end;
    }

    /// Iterates over the events, in the order in which the selector found them.
    pub fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.list.iter()
    }

    /// Forgets all events, and takes the timeout for what will end the wait. Selectors call it when a
    /// wait begins.
    pub fn clear(&mut self) {
        self.list.clear();
        self.empty_end = WaitEnd::Timeout;
    }

    /// Adds an event. Selectors call it, after asking [`is_full`](Events::is_full).
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
