//! One watched descriptor: what it is ready for, and who waits for it.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use crate::{Interest, Readiness, Token, Watched};

/// Names the two ways in which data moves through a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
/// It shares ownership of the descriptor, so none is ever closed while it is registered.
pub(crate) struct Source {
    pub(crate) token: Token,
    pub(crate) io: Arc<dyn Watched>,
    /// What the selector watches for at present.
    pub(crate) armed: Interest,
    /// Set once an error, a hang-up or urgent data was told: from then on a short read proves
    /// nothing, since the end of the stream may be waiting behind it without another edge.
    pub(crate) hung_up: bool,
    sides: [Side; 2],
}

/// One direction of a source.
struct Side {
    /// Remembered until an operation would block. It starts set: nobody has tried yet.
    ///
    /// Invariant: while it is set there are no waiters; whoever would wait tries instead, and
    /// setting it wakes those that are there.
    ready: bool,
    waiters: Waiters,
}

impl Source {
    pub(crate) fn new(token: Token, io: Arc<dyn Watched>) -> Source {
        let side = || Side { ready: true, waiters: Waiters::default() };
        Source { token, io, armed: Interest::NONE, hung_up: false, sides: [side(), side()] }
    }

    pub(crate) fn is_ready(&self, direction: Direction) -> bool {
        self.sides[direction as usize].ready
    }

    pub(crate) fn set_ready(&mut self, direction: Direction, ready: bool) {
        self.sides[direction as usize].ready = ready;
    }

    pub(crate) fn waiters(&self, direction: Direction) -> &Waiters {
        &self.sides[direction as usize].waiters
    }

    pub(crate) fn waiters_mut(&mut self, direction: Direction) -> &mut Waiters {
        &mut self.sides[direction as usize].waiters
    }

    pub(crate) fn has_waiters(&self) -> bool {
        self.sides.iter().any(|side| !side.waiters.is_empty())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("token", &self.token)
            .field("armed", &self.armed)
            .field("ready", &self.sides.each_ref().map(|side| side.ready))
            .field("waiters", &self.sides.each_ref().map(|side| side.waiters.len()))
            .finish_non_exhaustive()
    }
}

/// Names one waiter among those of a direction, so that it can be replaced or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaiterKey(u32);

/// Those who wait for one direction, in the order in which they came.
///
/// One is the rule and costs no allocation; any number is legal, and each of them is woken.
#[derive(Default)]
pub(crate) struct Waiters {
    first: Option<(WaiterKey, Waker)>,
    /// Invariant: empty while `first` is.
    rest: Vec<(WaiterKey, Waker)>,
    next_key: u32,
}

impl Waiters {
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waker> {
        self.first.iter().chain(&self.rest).map(|(_, waker)| waker)
    }

    /// Puts `waker` in the place that `key` names, or at the end under a new key, and leaves what
    /// it replaces in its stead.
    pub(crate) fn put(&mut self, key: Option<WaiterKey>, waker: &mut Option<Waker>) -> WaiterKey {
        let new = waker.take().expect("a waiter brings a waker");
        let known = self.first.iter_mut().chain(&mut self.rest).find(|(k, _)| Some(*k) == key);
        if let Some((key, place)) = known {
            *waker = Some(mem::replace(place, new));
            return *key;
        }
        let key = WaiterKey(self.next_key);
        self.next_key = self.next_key.wrapping_add(1);
        match self.first {
            None => self.first = Some((key, new)),
            Some(_) => self.rest.push((key, new)),
        }
        key
    }

    /// Takes back the waiter that `key` names, if it is still there.
    pub(crate) fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
        if self.first.as_ref().is_some_and(|(k, _)| *k == key) {
            let next = if self.rest.is_empty() { None } else { Some(self.rest.remove(0)) };
            return mem::replace(&mut self.first, next).map(|(_, waker)| waker);
        }
        let index = self.rest.iter().position(|(k, _)| *k == key)?;
        Some(self.rest.remove(index).1)
    }

    /// Moves all waiters to `wakers`.
    pub(crate) fn take_into(&mut self, wakers: &mut Vec<Waker>) {
        if let Some((_, waker)) = self.first.take() {
            wakers.push(waker);
        }
        if !self.rest.is_empty() {
            wakers.extend(self.rest.drain(..).map(|(_, waker)| waker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(waiters: &mut Waiters) -> WaiterKey {
        waiters.put(None, &mut Some(Waker::noop().clone()))
    }

    #[test]
    fn removing_the_first_moves_the_second_up() {
        let mut waiters = Waiters::default();
        let (first, second) = (put(&mut waiters), put(&mut waiters));
        assert!(waiters.remove(first).is_some());
        assert!(waiters.remove(first).is_none());
        assert_eq!(waiters.len(), 1);
        assert!(waiters.remove(second).is_some());
        assert!(waiters.is_empty());
    }

    #[test]
    fn a_known_key_replaces_and_an_unknown_one_joins_the_end() {
        let mut waiters = Waiters::default();
        let key = put(&mut waiters);
        let mut waker = Some(Waker::noop().clone());
        assert_eq!(waiters.put(Some(key), &mut waker), key);
        assert!(waker.take().is_some(), "the old one is handed out");
        assert_eq!(waiters.len(), 1);
        waiters.take_into(&mut Vec::new());
        assert_ne!(waiters.put(Some(key), &mut Some(Waker::noop().clone())), key);
        assert_eq!(waiters.len(), 1);
    }

    #[test]
    fn everyone_who_waits_is_taken() {
        let mut waiters = Waiters::default();
        for _ in 0..5 {
            put(&mut waiters);
        }
        let mut wakers = Vec::new();
        waiters.take_into(&mut wakers);
        assert_eq!(wakers.len(), 5);
        assert!(waiters.is_empty());
    }
}
