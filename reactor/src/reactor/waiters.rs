//! Several waiters for one direction of a source.
//!
//! An event wakes the waiter that has waited longest. If the source is still ready at the start of the next
//! turn, that turn wakes two more, the one after it four, and so on: the cost of an event depends on what
//! there is to do, not on the number of waiters. Nothing is required of a woken waiter. It may be
//! dropped, take nothing, or not be polled at all, and the next turn wakes others all the same:
//!
//! **Invariant:** while a source is ready and has waiters, each turn wakes at least one.
//!
//! While a woken waiter has not been polled again, a turn wakes only one more: if the loop has much
//! else to do, the woken ones had no chance yet.
//!
//! A waiter that was woken and found nothing gets its place in the queue back, so that the waiters are
//! served in order. The second time it goes to the end, where it does not delay waiters that try another
//! operation.
//!
//! What an event reports besides data decides how many waiters it concerns:
//!
//! - An error or out-of-band data concerns one waiter, but not every waiter finds it: the next operation
//!   returns the error of a socket, but its error queue is returned only to those that read it. So the
//!   first few are woken, and each of them may try even if another has found nothing. From then on it is
//!   as above. A waiter that is not among them may miss it, so use a duplicate of the descriptor for
//!   another purpose.
//! - A hang-up stays, and all waiters leave because of it: it wakes all of them, once. If operations block
//!   nevertheless (receiving datagrams after a shutdown), later events are like any other.

use std::collections::BTreeMap;
use std::task::Waker;

use super::source::{Direction, Source, WaiterKey};

/// How many waiters an error or out-of-band data wakes at once. One is enough if all try the same operation; a
/// few more make it likely that one that tries another is among them.
const N_WOKEN_BY_ERROR: usize = 8;

/// What an event reports besides readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// An error or out-of-band data, which an operation consumes.
    Transient,
    /// A hang-up, which stays.
    Permanent,
}

/// The waiters for one direction of one source.
#[derive(Debug, Default)]
pub(crate) struct WaiterList {
    /// Whether an operation may succeed. Replaces the readiness in the source.
    is_ready: bool,
    /// The waiters. Keys are in order, so the first one has waited longest.
    waiting: BTreeMap<WaiterKey, Waiting>,
    /// The woken waiters, until they wait again or are forgotten.
    woken: BTreeMap<WaiterKey, Woken>,
    /// The number of waiters that the last turn has woken.
    n_woken: usize,
    /// Whether the next turn has to call [`wake_more`](WaiterLists::wake_more).
    is_listed: bool,
    /// Whether a hang-up has woken all waiters.
    is_closing: bool,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// Whether it was woken, tried and found nothing.
    found_nothing: bool,
}

#[derive(Debug)]
struct Woken {
    /// Whether it may try even if another waiter has found that the operation would block.
    may_retry: bool,
    has_tried: bool,
    found_nothing: bool,
}

impl WaiterList {
    /// Takes the waker of the waiter that has waited longest, and counts it among the woken.
    fn wake_first(&mut self, latest: WaiterKey, may_retry: bool) -> Option<Waker> {
        // Keys wrap around, so the oldest follows the latest.
        let first = self.waiting.range(latest.next()..).next();
        let key = *first.or_else(|| self.waiting.first_key_value())?.0;
        let Waiting { waker, found_nothing } = self.waiting.remove(&key)?;
        self.woken.insert(key, Woken { may_retry, has_tried: false, found_nothing });
        Some(waker)
    }
}

/// The waiter lists of all sources, by slot and direction.
///
/// Invariant: a direction has a list if and only if its source says so, and no list is empty.
#[derive(Debug, Default)]
pub(crate) struct WaiterLists(BTreeMap<(u32, Direction), WaiterList>);

impl WaiterLists {
    /// Returns whether the waiter `key` may try the operation.
    ///
    /// It keeps its key, and its place in the queue if it was not woken.
    #[cold]
    pub(crate) fn poll(&mut self, slot: u32, direction: Direction, key: Option<WaiterKey>) -> bool {
        let Some(list) = self.0.get_mut(&(slot, direction)) else { return false };
        let Some(woken) = key.and_then(|key| list.woken.get_mut(&key)) else {
            return list.is_ready;
        };
        let may_try = std::mem::take(&mut woken.may_retry) || list.is_ready;
        woken.has_tried |= may_try;
        may_try
    }

    /// Stores `waker` in the place of the waiter `key`, or at the end of the queue with a new key. Leaves
    /// the replaced waker in `waker`.
    #[cold]
    pub(crate) fn join(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
        key: Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> WaiterKey {
        let new = waker.take().expect("a waiter has a waker");
        let list = self.0.entry((slot, direction)).or_default();
        if let Some(first) = source.take_waiter(direction) {
            let first = Waiting { waker: first, found_nothing: false };
            list.waiting.insert(source.latest_key(direction), first);
        }
        source.set_has_list(direction, true);
        if let Some(key) = key {
            if let Some(place) = list.waiting.get_mut(&key) {
                *waker = Some(std::mem::replace(&mut place.waker, new));
                return key;
            }
            if let Some(woken) = list.woken.remove(&key)
                && !(woken.has_tried && woken.found_nothing)
            {
                let found_nothing = woken.has_tried || woken.found_nothing;
                list.waiting.insert(key, Waiting { waker: new, found_nothing });
                return key;
            }
        }
        let mut key = source.next_key(direction);
        while list.waiting.contains_key(&key) || list.woken.contains_key(&key) {
            key = source.next_key(direction);
        }
        list.waiting.insert(key, Waiting { waker: new, found_nothing: false });
        key
    }

    /// Removes the waiter `key`, and returns its waker if it has not been woken.
    pub(crate) fn remove(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
        key: WaiterKey,
    ) -> Option<Waker> {
        let list = self.0.get_mut(&(slot, direction))?;
        list.woken.remove(&key);
        let waiting = list.waiting.remove(&key);
        if list.waiting.is_empty() && list.woken.is_empty() {
            self.drain(slot, source, direction);
        }
        waiting.map(|waiting| waiting.waker)
    }

    /// Records that an operation would have blocked.
    pub(crate) fn clear_ready(&mut self, slot: u32, direction: Direction) {
        if let Some(list) = self.0.get_mut(&(slot, direction)) {
            list.is_ready = false;
        }
    }

    /// Wakes the waiters that an event concerns: the first one, or more depending on `condition`.
    ///
    /// Returns whether there were waiters, and whether the list has to be added to those for which the next turn
    /// calls [`wake_more`](WaiterLists::wake_more).
    #[cold]
    pub(crate) fn wake_for_event(
        &mut self,
        slot: u32,
        source: &Source,
        direction: Direction,
        condition: Condition,
        wakers: &mut Vec<Waker>,
    ) -> (bool, bool) {
        let Some(list) = self.0.get_mut(&(slot, direction)) else { return (false, false) };
        let n_waiting = list.waiting.len();
        let latest = source.latest_key(direction);
        list.is_ready = true;
        let (n_to_wake, may_retry) = match condition {
            Condition::Permanent if !std::mem::replace(&mut list.is_closing, true) => {
                (n_waiting, true)
            }
            Condition::Transient => (N_WOKEN_BY_ERROR.min(n_waiting), true),
            _ if list.is_listed => (0, false),
            _ => (1.min(n_waiting), false),
        };
        for _ in 0..n_to_wake {
            wakers.extend(list.wake_first(latest, may_retry));
        }
        if !list.is_listed {
            list.n_woken = n_to_wake.max(1);
        }
        let is_new = !list.is_listed && !list.waiting.is_empty();
        list.is_listed |= is_new;
        (n_waiting > 0, is_new)
    }

    /// Wakes more waiters if the source is still ready. Returns whether there are further ones.
    pub(crate) fn wake_more(
        &mut self,
        slot: u32,
        source: &Source,
        direction: Direction,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(list) = self.0.get_mut(&(slot, direction)) else { return false };
        if !list.is_listed {
            // The request was for an earlier list.
            return false;
        }
        if list.is_ready {
            let n_more = if list.woken.is_empty() { 2 * list.n_woken } else { 1 };
            list.n_woken = n_more.min(list.waiting.len());
            let latest = source.latest_key(direction);
            for _ in 0..list.n_woken {
                wakers.extend(list.wake_first(latest, false));
            }
        }
        list.is_listed = list.is_ready && !list.waiting.is_empty();
        list.is_listed
    }

    /// Removes a list and returns it with its waiters.
    pub(crate) fn drain(
        &mut self,
        slot: u32,
        source: &mut Source,
        direction: Direction,
    ) -> Option<WaiterList> {
        let list = self.0.remove(&(slot, direction))?;
        source.set_has_list(direction, false);
        source.set_ready(direction, list.is_ready);
        Some(list)
    }

    /// Iterates over the wakers of a list.
    pub(crate) fn of(&self, slot: u32, direction: Direction) -> impl Iterator<Item = &Waker> {
        let list = self.0.get(&(slot, direction)).into_iter();
        list.flat_map(|list| list.waiting.values().map(|waiting| &waiting.waker))
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

    /// The waiters for one direction of one source, as the reactor handles them.
    struct Side {
        waiter_lists: WaiterLists,
        source: Source,
    }

    const READ: Direction = Direction::Read;

    impl Side {
        fn new() -> Side {
            let (reader, _) = std::io::pipe().unwrap();
            let mut source = Source::new(0, Arc::new(Nothing(reader)));
            source.set_ready(READ, false);
            Side { waiter_lists: WaiterLists::default(), source }
        }

        /// Polls and waits. Returns `None` if the waiter may try an operation.
        fn poll(&mut self, mut key: Option<WaiterKey>) -> Option<WaiterKey> {
            let has_list = self.source.has_list(READ);
            if self.source.is_ready(READ) || has_list && self.waiter_lists.poll(5, READ, key) {
                return None;
            }
            let mut waker = Some(Waker::noop().clone());
            if self.source.has_list(READ) || !self.source.put_waiter(READ, &mut key, &mut waker) {
                key = Some(self.waiter_lists.join(5, &mut self.source, READ, key, &mut waker));
            }
            key
        }

        /// Polls with success, and stops waiting.
        fn poll_and_take(&mut self, key: WaiterKey) {
            assert_eq!(self.poll(Some(key)), None, "it may try");
            assert!(self.remove(key).is_none(), "it was woken");
        }

        fn remove(&mut self, key: WaiterKey) -> Option<Waker> {
            if self.source.has_list(READ) {
                return self.waiter_lists.remove(5, &mut self.source, READ, key);
            }
            let is_there = self.source.latest_key(READ) == key;
            if is_there { self.source.take_waiter(READ) } else { None }
        }

        fn len(&self) -> usize {
            self.source.waiter(READ).into_iter().chain(self.waiter_lists.of(5, READ)).count()
        }

        /// Reports an event, and returns the number of woken waiters.
        fn event(&mut self, condition: Condition) -> usize {
            let mut wakers = Vec::new();
            self.waiter_lists.wake_for_event(5, &self.source, READ, condition, &mut wakers);
            wakers.len()
        }

        fn next_turn(&mut self) -> usize {
            let mut wakers = Vec::new();
            self.waiter_lists.wake_more(5, &self.source, READ, &mut wakers);
            wakers.len()
        }

        /// Records that an operation would have blocked.
        fn blocks(&mut self) {
            self.source.set_ready(READ, false);
            self.waiter_lists.clear_ready(5, READ);
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
    fn a_key_from_before_a_wake_names_no_later_waiter() {
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
        assert!(side.waiter_lists.remove(5, &mut side.source, Direction::Write, key).is_none());
        assert_eq!(side.len(), 2);
    }

    #[test]
    fn an_event_wakes_the_first_and_further_turns_twice_as_many_each() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        let mut keys = keys.into_iter();
        let mut n_woken = side.event(Condition::None);
        for expected in [1, 2, 4, 8, 16, 32, 37] {
            assert_eq!(n_woken, expected);
            for key in keys.by_ref().take(n_woken) {
                side.poll_and_take(key);
            }
            n_woken = side.next_turn();
        }
        assert_eq!((n_woken, side.len()), (0, 0));
        assert!(!side.source.has_list(READ) && side.source.is_ready(READ));
    }

    #[test]
    fn while_woken_waiters_have_not_been_polled_a_turn_wakes_one_more() {
        let mut side = Side::new();
        for _ in 0..100 {
            side.poll(None);
        }
        assert_eq!(side.event(Condition::None), 1);
        for _ in 0..99 {
            assert_eq!(side.next_turn(), 1);
        }
        assert_eq!(side.next_turn(), 0);
    }

    #[test]
    fn once_an_operation_would_block_no_other_waiter_is_woken() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..10).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Condition::None), 1);
        side.poll_and_take(keys[0]);
        side.blocks();
        let again = side.poll(None).unwrap();
        assert_eq!(side.next_turn(), 0);
        // The next event is for the next one, and the one that was served has to queue.
        for key in keys[1..].iter().copied().chain([again]) {
            assert_eq!(side.event(Condition::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }

    #[test]
    fn one_that_finds_nothing_gets_its_place_back_once() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..3).map(|_| side.poll(None).unwrap()).collect();
        // Woken, but another waiter was faster: that does not count as a try.
        for _ in 0..3 {
            assert_eq!(side.event(Condition::None), 1);
            side.blocks();
            assert_eq!(side.poll(Some(keys[0])), Some(keys[0]));
            assert_eq!(side.next_turn(), 0);
        }
        let mut key = Some(keys[0]);
        for is_last in [false, true] {
            assert_eq!(side.event(Condition::None), 1);
            assert_eq!(side.poll(key), None);
            side.blocks();
            key = side.poll(key);
            assert_eq!(key != Some(keys[0]), is_last);
            assert_eq!(side.next_turn(), 0);
        }
        for key in [keys[1], keys[2], key.unwrap()] {
            assert_eq!(side.event(Condition::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }

    #[test]
    fn a_permanent_condition_wakes_all_once_and_each_may_try() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..10).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Condition::Permanent), 10);
        for &key in &keys {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
        }
        for key in keys {
            assert_eq!(side.poll(Some(key)), Some(key), "once for each event");
        }
        assert_eq!(side.next_turn(), 0);
        assert_eq!(side.event(Condition::Permanent), 1);
    }

    #[test]
    fn a_transient_condition_wakes_a_few_and_each_of_them_may_try() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Condition::Transient), N_WOKEN_BY_ERROR);
        for &key in &keys[..N_WOKEN_BY_ERROR] {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
            assert_eq!(side.poll(Some(key)), Some(key), "once for each event");
        }
        assert_eq!(side.next_turn(), 0);
        // Those that found nothing go to the end the second time, and others are first.
        assert_eq!(side.event(Condition::Transient), N_WOKEN_BY_ERROR);
        for &key in &keys[..N_WOKEN_BY_ERROR] {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
            assert_ne!(side.poll(Some(key)), Some(key));
        }
        assert_eq!(side.event(Condition::Transient), N_WOKEN_BY_ERROR);
        assert_eq!(side.poll(Some(keys[N_WOKEN_BY_ERROR])), None);
    }

    #[test]
    fn a_transient_condition_that_is_not_consumed_wakes_more_in_the_next_turn() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Condition::Transient), N_WOKEN_BY_ERROR);
        // They are dropped instead.
        for &key in &keys[..N_WOKEN_BY_ERROR] {
            side.remove(key);
        }
        assert_eq!(side.next_turn(), 2 * N_WOKEN_BY_ERROR);
    }

    #[test]
    fn one_that_is_polled_for_another_reason_keeps_its_place() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..3).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.poll(Some(keys[0])), Some(keys[0]));
        assert_eq!(side.event(Condition::None), 1);
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
        assert!(!keys.contains(&last), "one waiter at a time has a key");
        for key in keys.into_iter().chain([last]) {
            assert_eq!(side.event(Condition::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }
}
