//! One watched descriptor: what it is ready for, and who waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

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
    facts: Facts,
    /// What the selector watches for at present.
    pub(crate) armed: Interest,
    /// The key that was given out last, for each direction.
    keys: [WaiterKey; 2],
    /// Who waits for each direction, if it is one.
    ///
    /// Invariant: the key of such a waiter is the last that was given out.
    waiters: [Option<Waker>; 2],
    pub(crate) io: Arc<dyn Watched>,
}

/// What is known of a source: a set of bits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts(u8);

impl Facts {
    /// Reading is worth trying, and writing is. Remembered until an operation would block; it
    /// starts set, since nobody has tried yet.
    ///
    /// Invariant: while it is set there are no waiters; whoever would wait tries instead, and
    /// setting it wakes those that are there.
    const READY: [Facts; 2] = [Facts(1), Facts(2)];
    /// Several wait for a direction: all of them are in the reactor's crowds.
    const CROWDED: [Facts; 2] = [Facts(4), Facts(8)];
    /// An error, a hang-up or urgent data was told: from then on a short read proves nothing,
    /// since the end of the stream may be waiting behind it without another edge.
    const HUNG_UP: Facts = Facts(16);

    fn has(self, other: Facts) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Facts, value: bool) {
        self.0 = if value { self.0 | other.0 } else { self.0 & !other.0 };
    }
}

impl Source {
    pub(crate) fn new(generation: u32, io: Arc<dyn Watched>) -> Source {
        let [read, write] = Facts::READY;
        Source {
            generation,
            facts: Facts(read.0 | write.0),
            armed: Interest::NONE,
            keys: [WaiterKey(0); 2],
            waiters: [None, None],
            io,
        }
    }

    #[inline]
    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.facts.has(Facts::READY[direction as usize])
    }

    #[inline]
    pub(crate) fn set_ready(&mut self, direction: Direction, ready: bool) {
        self.facts.set(Facts::READY[direction as usize], ready);
    }

    #[inline]
    pub(crate) fn has_hung_up(&self) -> bool {
        self.facts.has(Facts::HUNG_UP)
    }

    #[inline]
    pub(crate) fn set_hung_up(&mut self) {
        self.facts.set(Facts::HUNG_UP, true);
    }

    #[inline]
    pub(crate) fn is_crowded(&self, direction: Direction) -> bool {
        self.facts.has(Facts::CROWDED[direction as usize])
    }

    #[inline]
    pub(crate) fn has_waiter(&self, direction: Direction) -> bool {
        self.waiters[direction as usize].is_some() || self.is_crowded(direction)
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

    fn next_key(&mut self, direction: Direction) -> WaiterKey {
        let key = &mut self.keys[direction as usize];
        *key = WaiterKey(key.0.wrapping_add(1));
        *key
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterKey(u32);

/// Those who wait for one direction of one source, in the order in which they came.
pub(crate) type Crowd = Vec<(WaiterKey, Waker)>;

/// The crowds of all sources: the directions for which several wait, or did when one more came.
///
/// One waiter is the rule; any number is legal, and each of them is woken.
///
/// Invariant: there is one for those directions that are marked as crowded, and none is empty.
#[derive(Default)]
pub(crate) struct Crowds(BTreeMap<(u32, Direction), Crowd>);

impl Crowds {
    /// Puts `waker` in the place that `key` names, or at the end under a new key, and leaves what
    /// it replaces in its stead.
    #[inline]
    pub(crate) fn put(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
        key: Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> WaiterKey {
        if source.is_crowded(direction) {
            return self.join(slot, source, direction, key, waker);
        }
        let place = &mut source.waiters[direction as usize];
        if place.is_none() {
            // Forgotten, because the compiler cannot know that there is nothing to drop.
            mem::forget(mem::replace(place, waker.take()));
            return source.next_key(direction);
        }
        let latest = source.keys[direction as usize];
        if key != Some(latest) {
            return self.join(slot, source, direction, key, waker);
        }
        mem::swap(place, waker);
        latest
    }

    /// Puts `waker` beside others.
    #[cold]
    fn join(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
        key: Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> WaiterKey {
        let new = waker.take().expect("a waiter brings a waker");
        let crowd = self.0.entry((slot, direction)).or_default();
        if let Some(first) = source.take_waiter(direction) {
            crowd.push((source.keys[direction as usize], first));
            source.facts.set(Facts::CROWDED[direction as usize], true);
        }
        if let Some((key, place)) = crowd.iter_mut().find(|(known, _)| Some(*known) == key) {
            *waker = Some(mem::replace(place, new));
            return *key;
        }
        let key = source.next_key(direction);
        crowd.push((key, new));
        key
    }

    /// Takes back the waiter that `key` names, if it is still there.
    pub(crate) fn remove(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
        key: WaiterKey,
    ) -> Option<Waker> {
        if !source.is_crowded(direction) {
            let is_there = source.keys[direction as usize] == key;
            return if is_there { source.take_waiter(direction) } else { None };
        }
        let crowd = self.0.get_mut(&(slot, direction))?;
        let index = crowd.iter().position(|(known, _)| *known == key)?;
        let (_, waker) = crowd.remove(index);
        if crowd.is_empty() {
            self.disperse(slot, source, direction);
        }
        Some(waker)
    }

    /// Hands out all who wait in a crowd.
    #[cold]
    pub(crate) fn disperse(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
    ) -> Crowd {
        source.facts.set(Facts::CROWDED[direction as usize], false);
        self.0.remove(&(slot, direction)).unwrap_or_default()
    }

    /// Lists who waits in a crowd.
    pub(crate) fn of(&self, slot: u32, direction: Direction) -> impl Iterator<Item = &Waker> {
        self.0.get(&(slot, direction)).into_iter().flatten().map(|(_, waker)| waker)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};

    use super::*;

    struct Nothing(std::io::PipeReader);

    impl AsFd for Nothing {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Watched for Nothing {
        fn is_home(&self, _token: crate::Token) -> bool {
            true
        }
    }

    /// The waiters for one direction of one source.
    struct Side {
        crowds: Crowds,
        source: Source,
    }

    impl Side {
        fn new() -> Side {
            let (reader, _) = std::io::pipe().unwrap();
            Side { crowds: Crowds::default(), source: Source::new(0, Arc::new(Nothing(reader))) }
        }

        fn put(&mut self, key: Option<WaiterKey>) -> (WaiterKey, Option<Waker>) {
            let mut waker = Some(Waker::noop().clone());
            let key = self.crowds.put(5, &mut self.source, Direction::Read, key, &mut waker);
            (key, waker)
        }

        fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
            self.crowds.remove(5, &mut self.source, Direction::Read, key)
        }

        fn len(&self) -> usize {
            let one = self.source.waiter(Direction::Read).iter().count();
            one + self.crowds.of(5, Direction::Read).count()
        }

        fn take(&mut self) -> usize {
            let one = self.source.take_waiter(Direction::Read).iter().count();
            one + self.crowds.disperse(5, &mut self.source, Direction::Read).len()
        }
    }

    #[cfg(target_pointer_width = "64")]
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

    #[test]
    fn removing_the_first_leaves_the_second() {
        let mut side = Side::new();
        let (first, second) = (side.put(None).0, side.put(None).0);
        assert!(side.remove(first).is_some());
        assert!(side.remove(first).is_none());
        assert_eq!(side.len(), 1);
        assert!(side.remove(second).is_some());
        assert!(!side.source.has_waiter(Direction::Read));
    }

    #[test]
    fn a_known_key_replaces_and_an_unknown_one_joins_the_end() {
        for n_others in [0, 1, 3] {
            let mut side = Side::new();
            let (key, _) = side.put(None);
            for _ in 0..n_others {
                side.put(None);
            }
            let (again, old) = side.put(Some(key));
            assert_eq!(again, key);
            assert!(old.is_some(), "the old one is handed out");
            assert_eq!(side.len(), 1 + n_others);
            assert_eq!(side.take(), 1 + n_others);
            assert_ne!(side.put(Some(key)).0, key);
            assert_eq!(side.len(), 1);
        }
    }

    #[test]
    fn a_key_from_before_a_wake_names_nobody_who_came_after() {
        let mut side = Side::new();
        let old = side.put(None).0;
        side.take();
        side.put(None);
        assert!(side.remove(old).is_none());
        side.put(None);
        assert!(side.remove(old).is_none());
        assert_eq!(side.len(), 2);
    }

    #[test]
    fn everyone_who_waits_is_taken() {
        let mut side = Side::new();
        for _ in 0..5 {
            side.put(None);
        }
        assert_eq!(side.take(), 5);
        assert!(!side.source.has_waiter(Direction::Read));
    }

    #[test]
    fn directions_do_not_mix() {
        let mut side = Side::new();
        let (key, _) = side.put(None);
        side.put(None);
        assert!(!side.source.has_waiter(Direction::Write));
        assert!(side.crowds.remove(5, &mut side.source, Direction::Write, key).is_none());
        assert_eq!(side.len(), 2);
    }
}
