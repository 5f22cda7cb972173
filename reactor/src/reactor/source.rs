//! A watched descriptor: its readiness and its waiters.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use super::waiters::Condition;
use crate::{Interest, Readiness, Watched};

/// The direction in which data moves through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the program: read, receive, accept.
    Read,
    /// From the program: write, send, connect.
    Write,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

    /// Returns the interest that watches this direction.
    pub const fn interest(self) -> Interest {
        match self {
            Direction::Read => Interest::READABLE,
            Direction::Write => Interest::WRITABLE,
        }
    }

    /// Returns whether a task that waits for this direction should try again.
    pub const fn is_woken_by(self, readiness: Readiness) -> bool {
        match self {
            Direction::Read => readiness.wakes_reader(),
            Direction::Write => readiness.wakes_writer(),
        }
    }

    /// Returns what `readiness` reports to the waiters of this direction besides data and room.
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
/// It shares ownership of the descriptor, so no descriptor is closed while it is registered. It fills
/// one cache line, because with a thousand connections each line is a cache miss for each message: of
/// its token it stores only the generation, and a second waiter for a direction is stored in a list elsewhere.
#[repr(align(64))]
pub(crate) struct Source {
    /// The generation of its token. The other parts are the number of the loop and the slot.
    pub(crate) generation: u32,
    flags: Flags,
    /// What the selector currently watches for.
    pub(crate) registered: Interest,
    /// The number of waits for a level that had been reported, up to [`WAITS_PER_CHECK`].
    n_waits: u8,
    /// The latest key of each direction.
    keys: [WaiterKey; 2],
    /// The waiter for each direction, if there is exactly one.
    ///
    /// Invariant: its key is the latest one.
    waiters: [Option<Waker>; 2],
    pub(crate) io: Arc<dyn Watched>,
}

/// The number of waits for a level after which one system call checks for a pending error: not measurable
/// next to 64 waits, and a source that keeps reporting an error stops after 64 turns.
const WAITS_PER_CHECK: u8 = 64;

/// The readiness flags of a source.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flags(u8);

impl Flags {
    /// An operation in this direction may succeed. Set until an operation would block, and at the start,
    /// since no operation has been tried yet.
    ///
    /// Invariant: while it is set, no task waits in this direction: a task that would wait tries
    /// instead, and setting it wakes the waiter. It is never set for a direction with a list, which has
    /// its own flag, so that one test separates the usual case from all others.
    const READY: [Flags; 2] = [Flags(1), Flags(2)];
    /// There are several waiters for this direction, or woken ones that have not been polled yet: all of them
    /// are in the reactor's waiter lists.
    const HAS_LIST: [Flags; 2] = [Flags(4), Flags(8)];
    /// A short read proves nothing: an error, a hang-up or out-of-band data has been reported, so that the end
    /// of the stream may follow without another edge; or the kind of the descriptor never proves it.
    const CLOSING: Flags = Flags(16);
    /// Levels only: it is left out of the set, since it reports an error that no operation finds.
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
            registered: Interest::NONE,
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

    /// Returns whether a short operation requires more than clearing the readiness.
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

    /// Counts a wait for a level. Returns whether it is time to check for a pending error.
    #[inline]
    pub(crate) fn is_check_due(&mut self) -> bool {
        self.n_waits += 1;
        self.n_waits >= WAITS_PER_CHECK
    }

    /// Records the result of a check: if it found an error, the next wait is checked as well.
    pub(crate) fn set_checked(&mut self, found_error: bool) {
        self.n_waits = if found_error { WAITS_PER_CHECK - 1 } else { 0 };
    }

    pub(crate) fn set_has_list(&mut self, direction: Direction, has_list: bool) {
        self.flags.set(Flags::HAS_LIST[direction as usize], has_list);
    }

    #[inline]
    pub(crate) fn has_waiter(&self, direction: Direction) -> bool {
        self.waiters[direction as usize].is_some() || self.has_list(direction)
    }

    /// Returns the waiter of a direction, if there is exactly one.
    pub(crate) fn waiter(&self, direction: Direction) -> Option<&Waker> {
        self.waiters[direction as usize].as_ref()
    }

    /// Takes the waiter of a direction, if there is exactly one.
    #[inline]
    pub(crate) fn take_waiter(&mut self, direction: Direction) -> Option<Waker> {
        self.waiters[direction as usize].take()
    }

    /// Stores the only waiter of a direction with a new key, or in the place of the waiter `key`. Returns
    /// `false`, and does nothing, if there is another waiter.
    ///
    /// Leaves the replaced waker in `waker`.
    #[inline]
    pub(crate) fn put_waiter(
        &mut self,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> bool {
        let place = &mut self.waiters[direction as usize];
        if place.is_none() {
            // Forgotten, since the compiler cannot know that there is nothing to drop.
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

    /// Returns the latest key.
    pub(crate) fn latest_key(&self, direction: Direction) -> WaiterKey {
        self.keys[direction as usize]
    }

    pub(crate) fn next_key(&mut self, direction: Direction) -> WaiterKey {
        let key = &mut self.keys[direction as usize];
        *key = key.next();
        *key
    }

    /// Makes the keys continue after `key`.
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
            .field("registered", &self.registered)
            .field("ready", &both.map(|direction| self.is_ready(direction)))
            .field("waited_for", &both.map(|direction| self.has_waiter(direction)))
            .finish_non_exhaustive()
    }
}

/// Identifies a waiter among those for one direction of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterKey(u32);

impl WaiterKey {
    /// Returns the key after this one.
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
        // As in the slab.
        enum Entry {
            #[expect(dead_code, reason = "only its size counts")]
            Vacant(usize),
            #[expect(dead_code, reason = "only its size counts")]
            Occupied(Source),
        }
        assert_eq!(size_of::<Entry>(), 64);
    }
}
