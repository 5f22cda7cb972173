//! The tasks of a loop that other threads have woken, each listed once.

use std::mem;

use polyloop_reactor::Token;

use crate::event_loop::trim::trim;
use crate::tasks::numbers::is_main;

/// A list up to this length is searched linearly; a longer one has a hash table.
///
/// Eight numbers are one cache line. A single wake, by far the most frequent, searches nothing.
const SEARCHED_MAX: usize = 8;

/// Marks an empty entry of the table.
const EMPTY: u32 = u32::MAX;

/// Lists tasks in the order in which they were first woken since the loop last read the list.
///
/// A task that is woken repeatedly is listed once, however many others are woken in between. Entries are found by slot,
/// because of two ids with the same slot the older one names a task that has ended. Ids of main futures and of other
/// tasks cannot be compared, so a slot that has had both is listed at most twice. So the length of the list is bounded by
/// the number of slots, and the cost of a wake is constant.
#[derive(Default)]
pub(crate) struct WakeList {
    ids: Vec<Token>,
    /// Where a slot is in the list: open addressing, at most half full. Empty if the list is short.
    table: Vec<u32>,
}

impl WakeList {
    pub(crate) const fn new() -> WakeList {
        WakeList { ids: Vec::new(), table: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds a task, unless it is listed.
    #[inline]
    pub(crate) fn put(&mut self, id: Token) {
        if self.ids.last() == Some(&id) {
            return;
        }
        if self.ids.len() < SEARCHED_MAX {
            match self.ids.iter_mut().find(|other| is_same_place(**other, id)) {
                Some(other) => keep_newer(other, id),
                None => self.ids.push(id),
            }
            return;
        }
        self.put_by_table(id);
    }

    #[cold]
    fn put_by_table(&mut self, id: Token) {
        if 2 * self.ids.len() >= self.table.len() {
            self.grow();
        }
        let place = find(&self.ids, &self.table, id);
        match self.ids.get_mut(self.table[place] as usize) {
            Some(other) => keep_newer(other, id),
            None => {
                self.table[place] = self.ids.len() as u32;
                self.ids.push(id);
            }
        }
    }

    /// Doubles the table, or makes the first one.
    fn grow(&mut self) {
        let len = (4 * self.ids.len()).next_power_of_two();
        self.table.clear();
        self.table.resize(len, EMPTY);
        for (index, id) in self.ids.iter().enumerate() {
            let place = find(&self.ids, &self.table, *id);
            self.table[place] = index as u32;
        }
    }

    /// Moves the list to `into`, which must be empty, and keeps its allocation.
    pub(crate) fn take(&mut self, into: &mut Vec<Token>) {
        mem::swap(&mut self.ids, into);
        // The table's entries are stale. It is rebuilt when it is needed, with the size needed then.
        self.table.clear();
        trim(&mut self.table, 4 * into.len());
    }
}

/// Reports whether of two ids the older one names a task that has ended.
///
/// Ids of main futures form a separate sequence: the main future may have moved to a slot whose former owners have any
/// generations.
fn is_same_place(one: Token, other: Token) -> bool {
    one.slot() == other.slot() && is_main(one) == is_main(other)
}

/// Keeps the later of two owners of a slot in the list.
fn keep_newer(listed: &mut Token, id: Token) {
    // Ids of one kind are less than half of all numbers apart.
    let distance = id.generation().wrapping_sub(listed.generation()) & Token::MAX_GENERATION;
    if distance <= Token::MAX_GENERATION / 2 {
        *listed = id;
    }
}

/// Returns the table entry of an owner of the same slot, or the empty entry for it.
fn find(ids: &[Token], table: &[u32], id: Token) -> usize {
    let mask = table.len() - 1;
    // Fibonacci hashing: neighbouring slots, and those a power of two apart, are spread evenly.
    let mut place = (id.slot().wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
    while ids.get(table[place] as usize).is_some_and(|other| !is_same_place(*other, id)) {
        place = (place + 1) & mask;
    }
    place
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tasks::numbers::{LAST_GENERATION, MAIN};

    fn id(generation: u32, slot: u32) -> Token {
        Token::new(3, generation, slot)
    }

    fn taken(list: &mut WakeList) -> Vec<Token> {
        let mut ids = Vec::new();
        list.take(&mut ids);
        ids
    }

    #[test]
    fn tasks_woken_in_turn_are_listed_once_and_in_the_order_of_their_first_wakes() {
        let mut list = WakeList::new();
        for n_tasks in [1, 2, 3, 8, 9, 17, 1_000, 100_000] {
            for _ in 0..3 {
                (0..n_tasks).for_each(|slot| list.put(id(0, slot * 64)));
            }
            let ids = taken(&mut list);
            assert_eq!(ids, (0..n_tasks).map(|slot| id(0, slot * 64)).collect::<Vec<_>>());
            assert!(list.is_empty());
        }
    }

    #[test]
    fn of_two_tasks_of_a_slot_the_later_one_is_woken() {
        for n_others in [0, 100] {
            let mut list = WakeList::new();
            (0..n_others).for_each(|slot| list.put(id(0, 1_000 + slot)));
            for generation in [7, 6, 8, 7, 8, 5] {
                list.put(id(generation, 1));
                list.put(id(0, 2));
            }
            // From the first generation to the last, of main futures as well.
            for kind in [0, MAIN] {
                list.put(id(kind, 3));
                list.put(id(kind | (LAST_GENERATION - 1), 3));
                list.put(id(kind | 1, 3));
            }
            let ids = taken(&mut list);
            let last = [0, MAIN].map(|kind| id(kind | (LAST_GENERATION - 1), 3));
            assert_eq!(ids[n_others as usize..], [id(8, 1), id(0, 2), last[0], last[1]]);
        }
    }

    #[test]
    fn the_main_future_is_woken_whatever_else_had_its_slot_before() {
        for n_others in [0, 100] {
            for [first, second] in [[id(3, 1), id(MAIN | 4, 1)], [id(MAIN | 4, 1), id(3, 1)]] {
                let mut list = WakeList::new();
                (0..n_others).for_each(|slot| list.put(id(0, 1_000 + slot)));
                list.put(first);
                list.put(id(0, 2));
                list.put(second);
                assert!(taken(&mut list).contains(&id(MAIN | 4, 1)), "{n_others} others");
            }
        }
    }

    #[test]
    fn a_wake_costs_the_same_however_many_tasks_are_listed() {
        // Probes are the variable part of a wake's cost.
        let n_probes = |n_tasks: u32, stride: u32| -> f64 {
            let mut list = WakeList::new();
            (0..n_tasks).for_each(|slot| list.put(id(0, slot * stride)));
            let mask = list.table.len() - 1;
            let far = (0..n_tasks).map(|slot| {
                let slot = slot * stride;
                let place = find(&list.ids, &list.table, id(0, slot));
                let first = (slot.wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
                place.wrapping_sub(first) & mask
            });
            far.map(|probes| probes as f64).sum::<f64>() / f64::from(n_tasks)
        };
        for stride in [1, 2, 3, 16, 100, 128] {
            let (few, many) = (n_probes(100, stride), n_probes(100_000, stride));
            assert!(few < 2.0 && many < 2.0, "stride {stride}: {few} and {many} probes a wake");
        }
    }

    #[test]
    fn memory_follows_the_wakes_and_stale_numbers_take_no_more_than_slots() {
        let mut list = WakeList::new();
        for generation in 0..100_000 {
            list.put(id(generation, generation % 32));
        }
        let ids = taken(&mut list);
        assert_eq!(ids.len(), 32);
        (0..1_000_000).for_each(|slot| list.put(id(0, slot)));
        assert_eq!(taken(&mut list).len(), 1_000_000);
        list.put(id(0, 5));
        taken(&mut list);
        assert!(list.table.capacity() <= 4_096, "{}", list.table.capacity());
    }

    #[test]
    fn random_wakes_agree_with_a_map() {
        let mut state = 1_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            (state >> 33) % bound
        };
        let mut list = WakeList::new();
        for round in 0..300 {
            let mut map: BTreeMap<u32, u32> = BTreeMap::new();
            let n_slots = [3, 10, 100, 5_000][round % 4];
            for _ in 0..random(2_000) {
                let (slot, generation) = (random(n_slots) as u32, random(4) as u32);
                list.put(id(generation, slot));
                let newest = map.entry(slot).or_insert(generation);
                *newest = generation.max(*newest);
            }
            let mut ids = taken(&mut list);
            ids.sort_by_key(|id| id.slot());
            let expected = map.into_iter().map(|(slot, generation)| id(generation, slot));
            assert_eq!(ids, expected.collect::<Vec<_>>());
        }
    }
}
