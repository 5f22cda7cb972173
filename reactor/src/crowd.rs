//! Directions of a source for which several wait.
//!
//! An event wakes one of them, the first that came. If the source is still ready when the next
//! turn begins, that turn wakes two more, the one after it four, and so on: so what an event costs
//! follows from how much there is to do, not from how many wait. Nothing is asked of the ones that
//! were woken. They may be dropped, take nothing, or not be polled at all, and the next turn wakes
//! others all the same:
//!
//! **Invariant:** while a source is ready and somebody waits for it, each turn wakes at least one.
//!
//! While some that were woken have not come back, a turn wakes one more only: if the loop has much
//! else to do, they just had no chance yet.
//!
//! One that was woken and found nothing gets its place back, so that those who came first are served
//! first. The second time it goes to the end, lest it stands in the way of others that try something
//! else.
//!
//! What else an event may report beside data differs in who takes it away:
//!
//! - An error or urgent data is there for one of them, but not for each: the error of a socket is
//!   reported by the next operation, its queue of errors only to those that ask for it. So the first
//!   few are woken, and each of them may try although another has found nothing. The rest is as
//!   above.
//! - A hang-up stays, and all of them leave because of it: it wakes all, once. Where operations block
//!   all the same (receiving datagrams after a shutdown), later events are as any other.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::source::{Direction, Source, WaiterKey};

/// How many an error or urgent data wakes at once. One of them is enough where all want the same;
/// a few more make it likely that the one that looks for something else is among them.
const N_TRIES: usize = 8;

/// Says what an event reports to those who wait, beside that an operation is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// An error or urgent data: something that an operation takes away.
    Passing,
    /// A hang-up: something that stays.
    Lasting,
}

/// Those who wait for one direction of one source.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// Whether an operation is worth trying. It replaces the readiness in the source.
    is_ready: bool,
    /// Those who wait. Keys are given out in order, so the first is the one that came first.
    waiting: BTreeMap<WaiterKey, Waiting>,
    /// Those who were woken, until they wait again or are forgotten.
    called: BTreeMap<WaiterKey, Called>,
    /// How many the last turn has woken.
    n_woken: usize,
    /// Whether the next turn has to look at this crowd.
    is_listed: bool,
    /// Whether all were woken because of a hang-up.
    has_hung_up: bool,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// Whether it has tried in vain since it came.
    was_in_vain: bool,
}

#[derive(Debug)]
struct Called {
    /// Whether it may try even if another one has found that it would block.
    may_insist: bool,
    has_tried: bool,
    was_in_vain: bool,
}

impl Crowd {
    /// Moves the one that has waited longest to those who were called.
    fn call(&mut self, latest: WaiterKey, may_insist: bool) -> Option<Waker> {
        // Keys wrap around, so the oldest follows the latest.
        let first = self.waiting.range(latest.next()..).next();
        let key = *first.or_else(|| self.waiting.first_key_value())?.0;
        let Waiting { waker, was_in_vain } = self.waiting.remove(&key)?;
        self.called.insert(key, Called { may_insist, has_tried: false, was_in_vain });
        Some(waker)
    }
}

/// The crowds of all sources.
///
/// Invariant: there is one for those directions that are marked as crowded, and none is empty.
#[derive(Debug, Default)]
pub(crate) struct Crowds(BTreeMap<(u32, Direction), Crowd>);

impl Crowds {
    /// Reports whether an operation is worth trying for the waiter that `key` names.
    ///
    /// It keeps its key in any case, and its place if it was not called.
    #[cold]
    pub(crate) fn poll(&mut self, slot: u32, direction: Direction, key: Option<WaiterKey>) -> bool {
        let Some(crowd) = self.0.get_mut(&(slot, direction)) else { return false };
        let Some(called) = key.and_then(|key| crowd.called.get_mut(&key)) else {
            return crowd.is_ready;
        };
        let may_try = std::mem::take(&mut called.may_insist) || crowd.is_ready;
        called.has_tried |= may_try;
        may_try
    }

    /// Puts `waker` in the place that `key` names, or at the end under a new key, and leaves what
    /// it replaces in its stead.
    #[cold]
    pub(crate) fn join(
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
            let first = Waiting { waker: first, was_in_vain: false };
            crowd.waiting.insert(source.latest_key(direction), first);
        }
        source.set_crowded(direction, true);
        if let Some(key) = key {
            if let Some(place) = crowd.waiting.get_mut(&key) {
                *waker = Some(std::mem::replace(&mut place.waker, new));
                return key;
            }
            if let Some(called) = crowd.called.remove(&key)
                && !(called.has_tried && called.was_in_vain)
            {
                let was_in_vain = called.has_tried || called.was_in_vain;
                crowd.waiting.insert(key, Waiting { waker: new, was_in_vain });
                return key;
            }
        }
        let mut key = source.next_key(direction);
        while crowd.waiting.contains_key(&key) || crowd.called.contains_key(&key) {
            key = source.next_key(direction);
        }
        crowd.waiting.insert(key, Waiting { waker: new, was_in_vain: false });
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
        let crowd = self.0.get_mut(&(slot, direction))?;
        crowd.called.remove(&key);
        let waiting = crowd.waiting.remove(&key);
        if crowd.waiting.is_empty() && crowd.called.is_empty() {
            self.disperse(slot, source, direction);
        }
        waiting.map(|waiting| waiting.waker)
    }

    /// Notes that an operation would have blocked.
    pub(crate) fn clear_ready(&mut self, slot: u32, direction: Direction) {
        if let Some(crowd) = self.0.get_mut(&(slot, direction)) {
            crowd.is_ready = false;
        }
    }

    /// Wakes those whom an event concerns: the first, unless there is `trouble`.
    ///
    /// Says whether anybody was waiting, and whether the next turn has to
    /// [`call_more`](Crowds::call_more), which it has not been asked to before.
    #[cold]
    pub(crate) fn call_for_event(
        &mut self,
        slot: u32,
        source: &Source,
        direction: Direction,
        trouble: Trouble,
        wakers: &mut Vec<Waker>,
    ) -> (bool, bool) {
        let Some(crowd) = self.0.get_mut(&(slot, direction)) else { return (false, false) };
        let n_waiting = crowd.waiting.len();
        let latest = source.latest_key(direction);
        crowd.is_ready = true;
        let (n_called, may_insist) = match trouble {
            Trouble::Lasting if !std::mem::replace(&mut crowd.has_hung_up, true) => {
                (n_waiting, true)
            }
            Trouble::Passing => (N_TRIES.min(n_waiting), true),
            _ if crowd.is_listed => (0, false),
            _ => (1.min(n_waiting), false),
        };
        for _ in 0..n_called {
            wakers.extend(crowd.call(latest, may_insist));
        }
        if !crowd.is_listed {
            crowd.n_woken = n_called.max(1);
        }
        let is_new = !crowd.is_listed && !crowd.waiting.is_empty();
        crowd.is_listed |= is_new;
        (n_waiting > 0, is_new)
    }

    /// Wakes more of those who wait, if the source is still ready. False if that was all.
    pub(crate) fn call_more(
        &mut self,
        slot: u32,
        source: &Source,
        direction: Direction,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(crowd) = self.0.get_mut(&(slot, direction)) else { return false };
        if !crowd.is_listed {
            // Of an earlier crowd.
            return false;
        }
        if crowd.is_ready {
            let n_more = if crowd.called.is_empty() { 2 * crowd.n_woken } else { 1 };
            crowd.n_woken = n_more.min(crowd.waiting.len());
            let latest = source.latest_key(direction);
            for _ in 0..crowd.n_woken {
                wakers.extend(crowd.call(latest, false));
            }
        }
        crowd.is_listed = crowd.is_ready && !crowd.waiting.is_empty();
        crowd.is_listed
    }

    /// Hands out a crowd with all who wait in it.
    pub(crate) fn disperse(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
    ) -> Option<Crowd> {
        let crowd = self.0.remove(&(slot, direction))?;
        source.set_crowded(direction, false);
        source.set_ready(direction, crowd.is_ready);
        Some(crowd)
    }

    /// Lists who waits in a crowd.
    pub(crate) fn of(&self, slot: u32, direction: Direction) -> impl Iterator<Item = &Waker> {
        let crowd = self.0.get(&(slot, direction)).into_iter();
        crowd.flat_map(|crowd| crowd.waiting.values().map(|waiting| &waiting.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;

    use super::*;
    use crate::{Token, Watched};

    struct Nothing(std::io::PipeReader);

    impl AsFd for Nothing {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Watched for Nothing {
        fn is_latest(&self, _token: Token) -> bool {
            true
        }
    }

    /// Those who wait for one direction of one source, as the reactor treats them.
    struct Side {
        crowds: Crowds,
        source: Source,
    }

    const READ: Direction = Direction::Read;

    impl Side {
        fn new() -> Side {
            let (reader, _) = std::io::pipe().unwrap();
            let mut source = Source::new(0, Arc::new(Nothing(reader)));
            source.set_ready(READ, false);
            Side { crowds: Crowds::default(), source }
        }

        /// Polls and waits; none if an operation is worth trying.
        fn poll(&mut self, mut key: Option<WaiterKey>) -> Option<WaiterKey> {
            let crowded = self.source.is_crowded(READ);
            if self.source.is_ready(READ) || crowded && self.crowds.poll(5, READ, key) {
                return None;
            }
            let mut waker = Some(Waker::noop().clone());
            if self.source.is_crowded(READ) || !self.source.put_waiter(READ, &mut key, &mut waker) {
                key = Some(self.crowds.join(5, &mut self.source, READ, key, &mut waker));
            }
            key
        }

        /// Polls with success, and leaves.
        fn poll_and_take(&mut self, key: WaiterKey) {
            assert_eq!(self.poll(Some(key)), None, "it may try");
            assert!(self.remove(key).is_none(), "it was called");
        }

        fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
            if self.source.is_crowded(READ) {
                return self.crowds.remove(5, &mut self.source, READ, key);
            }
            let is_there = self.source.latest_key(READ) == key;
            if is_there { self.source.take_waiter(READ) } else { None }
        }

        fn len(&self) -> usize {
            self.source.waiter(READ).into_iter().chain(self.crowds.of(5, READ)).count()
        }

        /// Is told of an event, and returns how many are woken.
        fn event(&mut self, trouble: Trouble) -> usize {
            let mut wakers = Vec::new();
            self.crowds.call_for_event(5, &self.source, READ, trouble, &mut wakers);
            wakers.len()
        }

        fn next_turn(&mut self) -> usize {
            let mut wakers = Vec::new();
            self.crowds.call_more(5, &self.source, READ, &mut wakers);
            wakers.len()
        }

        /// Notes that an operation would have blocked.
        fn blocks(&mut self) {
            self.source.set_ready(READ, false);
            self.crowds.clear_ready(5, READ);
        }
    }

    #[test]
    fn removing_the_first_leaves_the_second() {
        let mut side = Side::new();
        let (first, second) = (side.poll(None).unwrap(), side.poll(None).unwrap());
        assert!(side.remove(first).is_some());
        assert!(side.remove(first).is_none());
        assert_eq!(side.len(), 1);
        assert!(side.remove(second).is_some());
        assert!(!side.source.has_waiter(READ));
    }

    #[test]
    fn a_known_key_replaces_and_an_unknown_one_joins_the_end() {
        for n_others in [0, 1, 3] {
            let mut side = Side::new();
            let key = side.poll(None).unwrap();
            for _ in 0..n_others {
                side.poll(None);
            }
            assert_eq!(side.poll(Some(key)), Some(key));
            assert_eq!(side.len(), 1 + n_others);
            side.remove(key);
            assert_ne!(side.poll(Some(key)), Some(key));
            assert_eq!(side.len(), 1 + n_others);
        }
    }

    #[test]
    fn a_key_from_before_a_wake_names_nobody_who_came_after() {
        let mut side = Side::new();
        let old = side.poll(None).unwrap();
        side.source.take_waiter(READ);
        side.poll(None);
        assert!(side.remove(old).is_none());
        side.poll(None);
        assert!(side.remove(old).is_none());
        assert_eq!(side.len(), 2);
    }

    #[test]
    fn directions_do_not_mix() {
        let mut side = Side::new();
        let key = side.poll(None).unwrap();
        side.poll(None);
        assert!(!side.source.has_waiter(Direction::Write));
        assert!(side.crowds.remove(5, &mut side.source, Direction::Write, key).is_none());
        assert_eq!(side.len(), 2);
    }

    #[test]
    fn an_event_wakes_the_first_and_further_turns_twice_as_many_each() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        let mut keys = keys.into_iter();
        let mut n_woken = side.event(Trouble::None);
        for expected in [1, 2, 4, 8, 16, 32, 37] {
            assert_eq!(n_woken, expected);
            for key in keys.by_ref().take(n_woken) {
                side.poll_and_take(key);
            }
            n_woken = side.next_turn();
        }
        assert_eq!((n_woken, side.len()), (0, 0));
        assert!(!side.source.is_crowded(READ) && side.source.is_ready(READ));
    }

    #[test]
    fn while_those_who_were_woken_have_not_come_back_a_turn_wakes_one_more() {
        let mut side = Side::new();
        for _ in 0..100 {
            side.poll(None);
        }
        assert_eq!(side.event(Trouble::None), 1);
        for _ in 0..99 {
            assert_eq!(side.next_turn(), 1);
        }
        assert_eq!(side.next_turn(), 0);
    }

    #[test]
    fn once_an_operation_would_block_nobody_else_is_woken() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..10).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Trouble::None), 1);
        side.poll_and_take(keys[0]);
        side.blocks();
        let again = side.poll(None).unwrap();
        assert_eq!(side.next_turn(), 0);
        // The next event is for the next one, and the one that was served has to queue.
        for key in keys[1..].iter().copied().chain([again]) {
            assert_eq!(side.event(Trouble::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }

    #[test]
    fn one_that_finds_nothing_gets_its_place_back_once() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..3).map(|_| side.poll(None).unwrap()).collect();
        // Called, and somebody else was faster: that is no try.
        for _ in 0..3 {
            assert_eq!(side.event(Trouble::None), 1);
            side.blocks();
            assert_eq!(side.poll(Some(keys[0])), Some(keys[0]));
            assert_eq!(side.next_turn(), 0);
        }
        let mut key = Some(keys[0]);
        for is_last in [false, true] {
            assert_eq!(side.event(Trouble::None), 1);
            assert_eq!(side.poll(key), None);
            side.blocks();
            key = side.poll(key);
            assert_eq!(key != Some(keys[0]), is_last);
            assert_eq!(side.next_turn(), 0);
        }
        for key in [keys[1], keys[2], key.unwrap()] {
            assert_eq!(side.event(Trouble::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }

    #[test]
    fn trouble_that_lasts_wakes_all_once_and_each_may_try() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..10).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Trouble::Lasting), 10);
        for &key in &keys {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
        }
        for key in keys {
            assert_eq!(side.poll(Some(key)), Some(key), "once for each event");
        }
        assert_eq!(side.next_turn(), 0);
        assert_eq!(side.event(Trouble::Lasting), 1);
    }

    #[test]
    fn trouble_that_passes_wakes_a_few_and_each_of_them_may_try() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Trouble::Passing), N_TRIES);
        for &key in &keys[..N_TRIES] {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
            assert_eq!(side.poll(Some(key)), Some(key), "once for each event");
        }
        assert_eq!(side.next_turn(), 0);
        // Those who tried in vain go to the end the second time, and others come first.
        assert_eq!(side.event(Trouble::Passing), N_TRIES);
        for &key in &keys[..N_TRIES] {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
            assert_ne!(side.poll(Some(key)), Some(key));
        }
        assert_eq!(side.event(Trouble::Passing), N_TRIES);
        assert_eq!(side.poll(Some(keys[N_TRIES])), None);
    }

    #[test]
    fn trouble_that_nobody_has_taken_wakes_more_in_the_next_turn() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Trouble::Passing), N_TRIES);
        // They are dropped instead.
        for &key in &keys[..N_TRIES] {
            side.remove(key);
        }
        assert_eq!(side.next_turn(), 2 * N_TRIES);
    }

    #[test]
    fn one_that_is_polled_for_another_reason_keeps_its_place() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..3).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.poll(Some(keys[0])), Some(keys[0]));
        assert_eq!(side.event(Trouble::None), 1);
        assert_eq!(side.poll(Some(keys[2])), None, "it may try");
        assert_eq!(side.len(), 2, "and can still be woken");
        side.blocks();
        assert_eq!(side.poll(Some(keys[2])), Some(keys[2]));
        assert_eq!(side.len(), 2);
    }

    #[test]
    fn keys_may_wrap_around() {
        let mut side = Side::new();
        side.source.set_latest_key(READ, u32::MAX - 2);
        let keys: Vec<_> = (0..6).map(|_| side.poll(None).unwrap()).collect();
        side.source.set_latest_key(READ, u32::MAX - 2);
        let last = side.poll(None).unwrap();
        assert!(!keys.contains(&last), "a key is given to one at a time");
        for key in keys.into_iter().chain([last]) {
            assert_eq!(side.event(Trouble::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }
}
