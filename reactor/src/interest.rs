//! What a caller asks for: [`Interest`] in directions, and the [`Mode`] of telling.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Names the kinds of readiness a caller asks a selector to report.
///
/// Combine with `|`. The empty interest exists as a value ([`Interest::NONE`]), but no selector
/// registers it: a descriptor nobody waits for does not belong in the set.
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

    /// Asks for nothing.
    pub const NONE: Interest = Interest(0);
    /// Asks to be told when a read would not block.
    pub const READABLE: Interest = Interest(1);
    /// Asks to be told when a write would not block.
    pub const WRITABLE: Interest = Interest(4);
    /// Asks to be told of out-of-band data (`POLLPRI`, select's exceptional set).
    pub const PRIORITY: Interest = Interest(2);

    /// Reports whether all of `other` is asked for.
    pub const fn contains(self, other: Interest) -> bool {
        self.0 & other.0 == other.0
    }

    /// Reports whether nothing is asked for.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns what is asked for here or in `other`.
    pub const fn union(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }

    /// Returns what is asked for here and not in `other`.
    pub const fn without(self, other: Interest) -> Interest {
        Interest(self.0 & !other.0)
    }

    /// Reports whether reads are asked for.
    pub const fn is_readable(self) -> bool {
        self.contains(Interest::READABLE)
    }

    /// Reports whether writes are asked for.
    pub const fn is_writable(self) -> bool {
        self.contains(Interest::WRITABLE)
    }

    /// Reports whether out-of-band data is asked for.
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

/// Says how often a state of readiness is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// Reports in every wait for as long as the state lasts. Every backend has it.
    #[default]
    Level,
    /// Reports once, then stays silent until the descriptor is modified. Every backend has it;
    /// select and poll emulate it.
    OneShot,
    /// Reports when the state begins, and again when more arrives. epoll and kqueue have it;
    /// select and poll answer [`Unsupported`](std::io::ErrorKind::Unsupported).
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
