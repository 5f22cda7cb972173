//! One watched descriptor: what it is ready for, and who waits for it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use super::waiters::Condition;
use crate::{Interest, Readiness, Watched};

/// Names the two ways in which data moves through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Towards the program: read, receive, accept.
    Read,
    /// Away from it: write, send, connect.
    Write,
}

impl Direction {
    /// Lists both.
    pub const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

    /// Returns the interest that watches this direction.
    pub const fn interest(self) -> Interest {
        match self {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        }
    }

    /// Reports whether whoever waits for this direction should try again.
    pub const fn is_woken_by(self, readiness: Readiness) -> bool {
        match self {
            Direction::Read => readiness.wakes_reader(),
            Direction::Write => readiness.wakes_writer(),
        }
    }

    /// Returns what `readiness` reports to the waiters of this direction, besides data and room.
    pub(crate) fn condition(self, readiness: Readiness) -> Condition {
        let (lasting, passing) = match self {
            Direction::Read => (Readiness::READ_CLOSED, Readiness::PRIORITY),
            Direction::Write => (Readiness::NONE, Readiness::NONE),
        };
        let has = |flags| readiness.without(flags) != readiness;
        if has(lasting | Readiness::HANG_UP | Readiness::INVALID) {
            Condition::Permanent
        } else if has(passing | Readiness::ERROR) {
            Condition::Transient
        } else {
            Condition::None
        }
    }
}

/// A registered descriptor.
///
/// It shares ownership of the descriptor, so none is ever closed while it is registered. It fills
/// one cache line, because with a thousand connections every line is a miss for each message: of
/// its token only the generation is kept, and a second waiter for a direction is kept elsewhere.
#[repr(align(64))]
pub(crate) struct Source {
    /// That of its token. The rest of the token is the reactor's number and the slot.
    pub(crate) generation: u32,
    flags: Flags,
    /// What the selector watches for at present.
    pub(crate) armed: Interest,
    /// How often one has waited for what was reported as a level, up to [`WAITS_PER_CHECK`].
    n_waits: u8,
    /// The key that was given out last, for each direction.
    keys: [WaiterKey; 2],
    /// Who waits for each direction, if it is one.
    ///
    /// Invariant: the key of such a waiter is the last that was given out.
    waiters: [Option<Waker>; 2],
    pub(crate) io: Arc<dyn Watched>,
}

/// How many waits for a level are believed before one system call asks about it: not measurable
/// beside 64 waits, and a source that reports in vain stops after 64 turns.
const WAITS_PER_CHECK: u8 = 64;

/// What is known of a source: a set of bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    /// Reading is worth trying, and writing is. Remembered until an operation would block; it
    /// starts set, since nobody has tried yet.
    ///
    /// Invariant: while it is set nobody waits in this direction: a task that would wait tries
    /// instead, and setting it wakes the one that is there. It is never set for a list, which has
    /// a flag of its own, so that one test tells the usual case from all others.
    const READY: [Flags; 2] = [Flags(1), Flags(2)];
    /// Several wait for a direction, or have been woken and did not come back yet: all of them are
    /// in the reactor's waiter_lists.
    const HAS_LIST: [Flags; 2] = [Flags(4), Flags(8)];
    /// A short read proves nothing: an error, a hang-up or urgent data was reported, so that the end of
    /// the stream may be waiting behind it without another edge; or the descriptor is of a kind
    /// that never proves it.
    const CLOSING: Flags = Flags(16);
    /// Levels only: it is kept out of the set, since it reports an error that no operation finds.
    const BACKING_OFF: Flags = Flags(32);

    fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Flags, value: bool) {
        self.0 = if value { self.0 | other.0 } else { self.0 & !other.0 };
    }
}

impl Source {
    pub(crate) fn new(generation: u32, io: Arc<dyn Watched>) -> Source {
        let [read, write] = Flags::READY;
        Source {
            generation,
            flags: Flags(read.0 | write.0),
            armed: Interest::NONE,
            n_waits: 0,
            keys: [WaiterKey(0); 2],
            waiters: [None, None],
            io,
        }
    }

    #[inline]
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.flags.has(Flags::READY[direction as usize])
    }

    #[inline]
    pub(crate) fn set_ready(&mut self, direction: Direction, ready: bool) {
        self.flags.set(Flags::READY[direction as usize], ready);
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.flags.has(Flags::CLOSING)
    }

    /// Reports whether a short operation takes more thought than forgetting the readiness.
    #[inline]
    pub(crate) fn is_closing_or_has_list(&self, direction: Direction) -> bool {
        self.flags.has(Flags(Flags::CLOSING.0 | Flags::HAS_LIST[direction as usize].0))
    }

    #[inline]
    pub(crate) fn set_closing(&mut self) {
        self.flags.set(Flags::CLOSING, true);
    }

    #[inline]
    pub(crate) fn has_list(&self, direction: Direction) -> bool {
        self.flags.has(Flags::HAS_LIST[direction as usize])
    }

    pub(crate) fn is_backing_off(&self) -> bool {
        self.flags.has(Flags::BACKING_OFF)
    }

    pub(crate) fn set_backing_off(&mut self, backing_off: bool) {
        self.flags.set(Flags::BACKING_OFF, backing_off);
    }

    /// Counts a wait for a level; true if it is time to ask whether the level can be believed.
    #[inline]
    pub(crate) fn is_check_due(&mut self) -> bool {
        self.n_waits += 1;
        self.n_waits >= WAITS_PER_CHECK
    }

    /// Says what came of the check_error: if it was right, the next wait is failed as well.
    pub(crate) fn set_checked(&mut self, failed: bool) {
        self.n_waits = if failed { WAITS_PER_CHECK - 1 } else { 0 };
    }

    pub(crate) fn set_has_list(&mut self, direction: Direction, has_list: bool) {
        self.flags.set(Flags::HAS_LIST[direction as usize], has_list);
    }

    #[inline]
    pub(crate) fn has_waiter(&self, direction: Direction) -> bool {
        self.waiters[direction as usize].is_some() || self.has_list(direction)
    }

    /// Lends the waiter that a direction has, if it is one.
    pub(crate) fn waiter(&self, direction: Direction) -> Option<&Waker> {
        self.waiters[direction as usize].as_ref()
    }

    /// Takes the waiter that a direction has, if it is one.
    #[inline]
    pub(crate) fn take_waiter(&mut self, direction: Direction) -> Option<Waker> {
        self.waiters[direction as usize].take()
    }

    /// Puts the only waiter of a direction in its place under a new key, or in that of the waiter
    /// that `key` names. False if another one is there; then nothing has happened.
    ///
    /// What was replaced is left in `waker`.
    #[inline]
    pub(crate) fn put_waiter(
        &mut self,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> bool {
        let place = &mut self.waiters[direction as usize];
        if place.is_none() {
            // Forgotten, because the compiler cannot know that there is nothing to drop.
            mem::forget(mem::replace(place, waker.take()));
            *key = Some(self.next_key(direction));
            return true;
        }
        let is_known = *key == Some(self.keys[direction as usize]);
        if is_known {
            mem::swap(place, waker);
        }
        is_known
    }

    /// Returns the key that was given out last.
    pub(crate) fn latest_key(&self, direction: Direction) -> WaiterKey {
        self.keys[direction as usize]
    }

    pub(crate) fn next_key(&mut self, direction: Direction) -> WaiterKey {
        let key = &mut self.keys[direction as usize];
        *key = key.next();
        *key
    }

    /// Makes the keys begin anew after `key`.
    #[cfg(test)]
    pub(crate) fn set_latest_key(&mut self, direction: Direction, key: u32) {
        self.keys[direction as usize] = WaiterKey(key);
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let both = Direction::BOTH;
        f.debug_struct("Source")
            .field("generation", &self.generation)
            .field("armed", &self.armed)
            .field("ready", &both.map(|direction| self.is_ready(direction)))
            .field("waited_for", &both.map(|direction| self.has_waiter(direction)))
            .finish_non_exhaustive()
    }
}

/// Names one waiter among those of a direction, so that it can be replaced or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterKey(u32);

impl WaiterKey {
    /// Returns the key that is given out after this one.
    pub(crate) fn next(self) -> WaiterKey {
        WaiterKey(self.0.wrapping_add(1))
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn a_source_fills_one_cache_line() {
        assert_eq!(size_of::<Source>(), 64);
        // What the slab makes of it.
        enum Entry {
            #[expect(dead_code, reason = "only its size counts")]
            Vacant(usize),
            #[expect(dead_code, reason = "only its size counts")]
            Occupied(Source),
        }
        assert_eq!(size_of::<Entry>(), 64);
    }
}
