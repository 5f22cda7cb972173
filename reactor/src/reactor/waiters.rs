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

use super::source::{Direction, Source, WaiterKey};

/// How many an error or urgent data wakes at once. One of them is enough where all want the same;
/// a few more make it likely that the one that looks for something else is among them.
const N_WOKEN_BY_ERROR: usize = 8;

/// Says what an event reports to those who wait, beside that an operation is worth trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    None,
    /// An error or urgent data: something that an operation takes away.
    Transient,
    /// A hang-up: something that stays.
    Permanent,
}

/// Those who wait for one direction of one source.
#[derive(Debug, Default)]
pub(crate) struct WaiterList {
    /// Whether an operation is worth trying. It replaces the readiness in the source.
    is_ready: bool,
    /// Those who wait. Keys are given out in order, so the first is the one that came first.
    waiting: BTreeMap<WaiterKey, Waiting>,
    /// Those who were woken, until they wait again or are forgotten.
    woken: BTreeMap<WaiterKey, Woken>,
    /// How many the last turn has woken.
    n_woken: usize,
    /// Whether the next turn has to look at this list.
    is_listed: bool,
    /// Whether all were woken because of a hang-up.
    is_closing: bool,
}

#[derive(Debug)]
struct Waiting {
    waker: Waker,
    /// Whether it has tried in vain since it came.
    found_nothing: bool,
}

#[derive(Debug)]
struct Woken {
    /// Whether it may try even if another one has found that it would block.
    may_retry: bool,
    has_tried: bool,
    found_nothing: bool,
}

impl WaiterList {
    /// Moves the one that has waited longest to those who were woken.
    fn call(&mut self, latest: WaiterKey, may_retry: bool) -> Option<Waker> {
        // Keys wrap around, so the oldest follows the latest.
        let first = self.waiting.range(latest.next()..).next();
        let key = *first.or_else(|| self.waiting.first_key_value())?.0;
        let Waiting { waker, found_nothing } = self.waiting.remove(&key)?;
        self.woken.insert(key, Woken { may_retry, has_tried: false, found_nothing });
        Some(waker)
    }
}

/// The waiter_lists of all sources.
///
/// Invariant: there is one for those directions that are marked as has_list, and none is empty.
#[derive(Debug, Default)]
pub(crate) struct WaiterLists(BTreeMap<(u32, Direction), WaiterList>);

impl WaiterLists {
    /// Reports whether an operation is worth trying for the waiter that `key` names.
    ///
    /// It keeps its key in any case, and its place if it was not woken.
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

    /// Takes back the waiter that `key` names, if it is still there.
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

    /// Notes that an operation would have blocked.
    pub(crate) fn clear_ready(&mut self, slot: u32, direction: Direction) {
        if let Some(list) = self.0.get_mut(&(slot, direction)) {
            list.is_ready = false;
        }
    }

    /// Wakes those whom an event concerns: the first, unless there is `condition`.
    ///
    /// Says whether anybody was waiting, and whether the next turn has to
    /// [`wake_more`](WaiterLists::wake_more), which it has not been asked to before.
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
            wakers.extend(list.call(latest, may_retry));
        }
        if !list.is_listed {
            list.n_woken = n_to_wake.max(1);
        }
        let is_new = !list.is_listed && !list.waiting.is_empty();
        list.is_listed |= is_new;
        (n_waiting > 0, is_new)
    }

    /// Wakes more of those who wait, if the source is still ready. False if that was all.
    pub(crate) fn wake_more(
        &mut self,
        slot: u32,
        source: &Source,
        direction: Direction,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(list) = self.0.get_mut(&(slot, direction)) else { return false };
        if !list.is_listed {
            // Of an earlier list.
            return false;
        }
        if list.is_ready {
            let n_more = if list.woken.is_empty() { 2 * list.n_woken } else { 1 };
            list.n_woken = n_more.min(list.waiting.len());
            let latest = source.latest_key(direction);
            for _ in 0..list.n_woken {
                wakers.extend(list.call(latest, false));
            }
        }
        list.is_listed = list.is_ready && !list.waiting.is_empty();
        list.is_listed
    }

    /// Hands out a list with all who wait in it.
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

    /// Lists who waits in a list.
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

    /// Those who wait for one direction of one source, as the reactor treats them.
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

        /// Polls and waits; none if an operation is worth trying.
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

        /// Polls with success, and leaves.
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

        /// Is reported of an event, and returns how many are woken.
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

        /// Notes that an operation would have blocked.
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
    fn while_those_who_were_woken_have_not_come_back_a_turn_wakes_one_more() {
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
    fn once_an_operation_would_block_nobody_else_is_woken() {
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
        // Woken, and somebody else was faster: that is no try.
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
    fn trouble_that_lasts_wakes_all_once_and_each_may_try() {
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
    fn trouble_that_passes_wakes_a_few_and_each_of_them_may_try() {
        let mut side = Side::new();
        let keys: Vec<_> = (0..100).map(|_| side.poll(None).unwrap()).collect();
        assert_eq!(side.event(Condition::Transient), N_WOKEN_BY_ERROR);
        for &key in &keys[..N_WOKEN_BY_ERROR] {
            assert_eq!(side.poll(Some(key)), None);
            side.blocks();
            assert_eq!(side.poll(Some(key)), Some(key), "once for each event");
        }
        assert_eq!(side.next_turn(), 0);
        // Those who tried in vain go to the end the second time, and others come first.
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
    fn trouble_that_nobody_has_taken_wakes_more_in_the_next_turn() {
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
        assert!(!keys.contains(&last), "a key is given to one at a time");
        for key in keys.into_iter().chain([last]) {
            assert_eq!(side.event(Condition::None), 1);
            side.poll_and_take(key);
            side.blocks();
            assert_eq!(side.next_turn(), 0);
        }
    }
}
