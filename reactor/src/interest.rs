//! What a caller registers for: [`Interest`] and [`Mode`].

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The kinds of readiness that a selector reports for a descriptor.
///
/// Combine interests with `|`. The empty interest exists as a value ([`Interest::NONE`]), but selectors
/// refuse to register it.
///
/// # Examples
/// ```
/// use polyloop::selectors::Interest;
///
/// let both = Interest::READABLE | Interest::WRITABLE;
/// assert!(both.contains(Interest::READABLE));
/// assert_eq!(both.without(Interest::READABLE), Interest::WRITABLE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Interest(u8);

impl Interest {
    // The numbers are those of POLLIN and so on, so that most of a translation is one instruction.

    /// No readiness.
    pub const NONE: Interest = Interest(0);
    /// A read would not block.
    pub const READABLE: Interest = Interest(1);
    /// A write would not block.
    pub const WRITABLE: Interest = Interest(4);
    /// Out-of-band data is waiting (`POLLPRI`, the exceptional set of select).
    pub const PRIORITY: Interest = Interest(2);

    /// Returns whether `self` contains all of `other`.
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether `self` is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the union of `self` and `other`.
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Returns `self` without `other`.
    pub const fn without(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }

    /// Returns whether `self` contains [`READABLE`](Interest::READABLE).
    pub const fn is_readable(self) -> bool {
        self.contains(Interest::READABLE)
    }

    /// Returns whether `self` contains [`WRITABLE`](Interest::WRITABLE).
    pub const fn is_writable(self) -> bool {
        self.contains(Interest::WRITABLE)
    }

    /// Returns whether `self` contains [`PRIORITY`](Interest::PRIORITY).
    pub const fn is_priority(self) -> bool {
        self.contains(Interest::PRIORITY)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.union(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Interest::READABLE, "READABLE"),
            (Interest::WRITABLE, "WRITABLE"),
            (Interest::PRIORITY, "PRIORITY"),
        ];
        crate::event::write_flags(f, names.map(|(flag, name)| (self.contains(flag), name)))
    }
}

/// How often readiness is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// In every wait, as long as the descriptor is ready. Every backend supports it.
    #[default]
    Level,
    /// Once, until the descriptor is modified. Every backend supports it.
    OneShot,
    /// When the descriptor becomes ready, and again when more data or room arrives. epoll and kqueue
    /// support it.
    Edge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_the_flags() {
        assert_eq!(format!("{:?}", Interest::READABLE | Interest::PRIORITY), "READABLE | PRIORITY");
        assert_eq!(format!("{:?}", Interest::NONE), "NONE");
    }

    #[test]
    fn without_removes_only_what_it_names() {
        let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        assert_eq!(all.without(Interest::WRITABLE), Interest::READABLE | Interest::PRIORITY);
        assert!(all.without(all).is_empty());
    }
}
