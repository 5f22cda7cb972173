//! The deadlines of a loop: asyncio's *scheduled* queue.
//!
//! A 4-ary heap, ordered by (deadline, sequence), so that equal deadlines fire first in, first out. Each timer knows its
//! position in the heap, so a timer that is dropped or reset is removed or moved at once: there are no dead entries and
//! no rebuilds.
//!
//! # Complexity
//! Arming, cancelling, resetting and firing are O(log n), with up to 13 moves of an entry in a heap
//! of 16,777,216 timers. Cancelling a timer that was armed since the loop last checked the heap, such as a
//! timeout that did not elapse, is O(1): its entry waits in a short list until then, or until there are
//! 64 of them. No step allocates, frees or copies more than 64 KiB.

use std::task::Waker;

use crate::time::clock::NEVER_NS;
use crate::time::segments::Segments;
use crate::time::timer_slots::{TimerSlot, TimerSlots};

/// The position of a timer that has fired and whose sleep has not been polled since.
const FIRED: u32 = TimerSlots::POSITIONS - 1;
/// The position of a timer whose deadline is beyond the end of the clock.
const UNBOUND: u32 = TimerSlots::POSITIONS - 2;

/// Children of a node. Four make the heap half as deep as two, and fill a cache line.
const ARITY: usize = 4;

/// The position of the heap's first entry. The children of a node are then one [`Family`]: those of
/// position 3 are at 4 to 7, those of 4 at 8 to 11.
const ROOT: usize = ARITY - 1;

/// The most entries that are not in the heap yet: 2 µs of work.
const MAX_FRESH: usize = 64;

/// The position of the first entry that is not in the heap yet.
const FRESH: u32 = 1 << 30;

/// Reports whether a timer with this position has an entry that is not in the heap yet.
#[inline]
fn is_fresh(position: u32) -> bool {
    (position.wrapping_sub(FRESH) as usize) < MAX_FRESH
}

/// A timer's deadline and slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    deadline_ns: u64,
    /// The sequence number of the arming, above the slot.
    key: u64,
}

impl Entry {
    /// Fills the positions after the last entry; later than every timer.
    const NONE: Entry = Entry { deadline_ns: NEVER_NS, key: 0 };

    fn slot(self) -> TimerSlot {
        TimerSlot(self.key as u32 & ((1 << TimerSlot::BITS) - 1))
    }

    /// Reports whether this timer fires before `other`.
    ///
    /// Sequence numbers wrap after 2⁴⁰ timers, so it is their distance that counts: of two timers
    /// for the same nanosecond the first armed is the first, unless 2³⁹ were armed in between.
    #[inline]
    fn is_before(self, other: Entry) -> bool {
        if self.deadline_ns != other.deadline_ns {
            return self.deadline_ns < other.deadline_ns;
        }
        (self.key.wrapping_sub(other.key) as i64) < 0
    }
}

/// The children of one node, in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Family([Entry; ARITY]);

/// The state that a poll of a sleep finds.
pub(crate) enum Polled {
    /// The timer has fired, and its slot is free again. The waker was not needed.
    Fired(Waker),
    /// The timer is armed; this is the waker that was replaced.
    Armed(Option<Waker>),
}

/// Holds the timers of one loop. Like the tasks, it runs no foreign code.
///
/// Invariant: a timer's position is that of its entry, in the heap or the list, or a value that says why it has none.
pub(crate) struct TimerHeap {
    families: Segments<Family>,
    /// The position after the heap's last entry.
    end: usize,
    /// Entries that are not in the heap yet, in the order of arming, except where cancelled ones were replaced.
    fresh: Vec<Entry>,
    slots: TimerSlots,
    /// The sequence number of the next timer, in the upper bits.
    next_key: u64,
    /// The moves of entries, for tests that count them.
    #[cfg(test)]
    n_moves: u64,
}

impl Default for TimerHeap {
    fn default() -> TimerHeap {
        TimerHeap {
            families: Segments::new(),
            end: ROOT,
            fresh: Vec::new(),
            slots: TimerSlots::new(),
            next_key: 0,
            #[cfg(test)]
            n_moves: 0,
        }
    }
}

impl TimerHeap {
    /// Returns the number of timers that will fire.
    pub(crate) fn n_armed(&self) -> usize {
        self.end - ROOT + self.fresh.len()
    }

    /// Arms a timer that wakes `waker` at `deadline_ns`, or only after a reset if that is [`NEVER_NS`].
    ///
    /// # Errors
    /// Returns the waker if there are 16,777,216 timers.
    #[inline]
    pub(crate) fn arm(&mut self, deadline_ns: u64, waker: Waker) -> Result<TimerSlot, Waker> {
        if deadline_ns == NEVER_NS {
            return self.slots.insert(UNBOUND, waker);
        }
        if self.fresh.len() == MAX_FRESH {
            self.sort_fresh();
        }
        let slot = self.slots.insert(self.next_fresh(), waker)?;
        self.push_fresh(deadline_ns, slot);
        Ok(slot)
    }

    /// Returns the position of the next entry that is not in the heap.
    #[inline]
    fn next_fresh(&self) -> u32 {
        FRESH + self.fresh.len() as u32
    }

    /// Adds the entry of a timer whose position is [`next_fresh`](TimerHeap::next_fresh).
    #[inline]
    fn push_fresh(&mut self, deadline_ns: u64, slot: TimerSlot) {
        let entry = self.new_entry(deadline_ns, slot);
        self.fresh.push(entry);
    }

    /// Puts the entries that were added since the last time into the heap.
    #[inline]
    fn sort(&mut self) {
        if !self.fresh.is_empty() {
            self.sort_fresh();
        }
    }

    #[inline(never)]
    fn sort_fresh(&mut self) {
        for index in 0..self.fresh.len() {
            let entry = self.fresh[index];
            let position = self.end;
            if position / ARITY >= self.families.len() {
                self.add_family();
            }
            self.end += 1;
            self.sift_up(position, entry);
        }
        self.fresh.clear();
    }

    #[inline]
    fn new_entry(&mut self, deadline_ns: u64, slot: TimerSlot) -> Entry {
        let key = self.next_key | u64::from(slot.0);
        self.next_key = self.next_key.wrapping_add(1 << TimerSlot::BITS);
        Entry { deadline_ns, key }
    }

    fn add_family(&mut self) {
        let n_families = self.end / ARITY + 1;
        while self.families.len() < n_families {
            self.families.push(Family([Entry::NONE; ARITY]));
        }
    }

    /// Lists the deadlines and wakers of the armed timers, in no particular order. O(n): for inspection.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (u64, &Waker)> {
        let entries = self.families.iter().flat_map(|family| family.0);
        entries
            .chain(self.fresh.iter().copied())
            .filter(|entry| *entry != Entry::NONE)
            .filter_map(|entry| Some((entry.deadline_ns, self.slots.waker(entry.slot())?)))
    }

    /// Lists the wakers of the timers that only a reset can make due. O(n).
    pub(crate) fn endless(&self) -> impl Iterator<Item = &Waker> {
        self.slots.wakers_at(UNBOUND)
    }

    /// Checks whether a timer has fired; if not, replaces its waker.
    #[inline]
    pub(crate) fn poll(&mut self, slot: TimerSlot, waker: Waker) -> Polled {
        if self.slots.position(slot) == Some(FIRED) {
            self.slots.remove(slot);
            return Polled::Fired(waker);
        }
        Polled::Armed(self.slots.set_waker(slot, waker))
    }

    /// Moves a timer to another deadline, with its waker: it then comes after those that were armed
    /// for that deadline before. Returns `false` if it has fired already; its slot is then free again.
    pub(crate) fn reset(&mut self, slot: TimerSlot, deadline_ns: u64) -> bool {
        match self.slots.position(slot) {
            Some(FIRED) => {
                self.slots.remove(slot);
                false
            }
            Some(UNBOUND) => {
                if deadline_ns != NEVER_NS {
                    if self.fresh.len() == MAX_FRESH {
                        self.sort_fresh();
                    }
                    self.slots.set_position(slot, self.next_fresh());
                    self.push_fresh(deadline_ns, slot);
                }
                true
            }
            Some(position) if deadline_ns == NEVER_NS => {
                self.remove_entry(position);
                self.slots.set_position(slot, UNBOUND);
                true
            }
            Some(position) => {
                let entry = self.new_entry(deadline_ns, slot);
                if is_fresh(position) {
                    self.fresh[(position - FRESH) as usize] = entry;
                } else {
                    self.sift(position as usize, entry);
                }
                true
            }
            None => false,
        }
    }

    /// Removes a timer, armed or fired; returns its waker, to be dropped or woken after the borrow.
    #[inline]
    pub(crate) fn cancel(&mut self, slot: TimerSlot) -> Option<Waker> {
        let position = self.slots.position(slot)?;
        if position < UNBOUND {
            self.remove_entry(position);
        }
        self.slots.remove(slot)
    }

    /// Returns the earliest deadline.
    #[inline]
    pub(crate) fn next_deadline_ns(&mut self) -> Option<u64> {
        self.sort();
        (self.end > ROOT).then(|| self.entry(ROOT).deadline_ns)
    }

    /// Takes the waker of the earliest timer if that is due at `now_ns`.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Waker> {
        while self.next_deadline_ns()? <= now_ns {
            let slot = self.entry(ROOT).slot();
            self.remove_from_heap(ROOT);
            self.slots.set_position(slot, FIRED);
            // There is none while the loop shuts down.
            if let Some(waker) = self.slots.take_waker(slot) {
                return Some(waker);
            }
        }
        None
    }

    /// Takes the first waker that `is_wanted`, of the timers from `from` on; returns it with the slot at
    /// which to continue.
    pub(crate) fn take_waker(
        &mut self,
        from: TimerSlot,
        is_wanted: impl Fn(&Waker) -> bool,
    ) -> Option<(Waker, TimerSlot)> {
        self.slots.take_next(from, is_wanted)
    }

    #[cfg(test)]
    pub(crate) fn set_max_chunks(&mut self, max_chunks: usize) {
        self.slots.set_max_chunks(max_chunks);
    }

    #[inline]
    fn entry(&self, position: usize) -> Entry {
        self.families[position / ARITY].0[position % ARITY]
    }

    /// Stores an entry and updates its timer's position.
    #[inline]
    fn place(&mut self, position: usize, entry: Entry) {
        self.families[position / ARITY].0[position % ARITY] = entry;
        self.slots.set_position(entry.slot(), position as u32);
        #[cfg(test)]
        {
            self.n_moves += 1;
        }
    }

    /// Takes out the entry of a timer that has this position.
    #[inline]
    fn remove_entry(&mut self, position: u32) {
        if !is_fresh(position) {
            return self.remove_from_heap(position as usize);
        }
        let index = (position - FRESH) as usize;
        // It is mostly the last one.
        if index + 1 == self.fresh.len() {
            self.fresh.truncate(index);
        } else {
            self.remove_early_fresh(index);
        }
    }

    /// Takes out an entry that is not in the heap yet, and puts the last such entry into its place.
    fn remove_early_fresh(&mut self, index: usize) {
        self.fresh.swap_remove(index);
        self.slots.set_position(self.fresh[index].slot(), FRESH + index as u32);
    }

    /// Takes out an entry of the heap. The last one takes its place, or one above or below it.
    fn remove_from_heap(&mut self, position: usize) {
        self.end -= 1;
        let last = self.end;
        let moved = self.entry(last);
        self.families[last / ARITY].0[last % ARITY] = Entry::NONE;
        if last.is_multiple_of(ARITY) {
            self.families.pop();
        }
        if position != last {
            self.sift(position, moved);
        }
    }

    /// Puts `entry` at `position` of the heap, or above or below it.
    fn sift(&mut self, position: usize, entry: Entry) {
        if position > ROOT && entry.is_before(self.entry(parent(position))) {
            self.sift_up(position, entry);
        } else {
            self.sift_down(position, entry);
        }
    }

    #[inline]
    fn sift_up(&mut self, mut position: usize, entry: Entry) {
        while position > ROOT {
            let above = self.entry(parent(position));
            if !entry.is_before(above) {
                break;
            }
            self.place(position, above);
            position = parent(position);
        }
        self.place(position, entry);
    }

    fn sift_down(&mut self, mut position: usize, entry: Entry) {
        while let Some(Family(children)) = self.families.get(children(position)) {
            let (mut least, mut first) = (0, children[0]);
            for (index, child) in children.iter().enumerate().skip(1) {
                if child.is_before(first) {
                    (least, first) = (index, *child);
                }
            }
            if !first.is_before(entry) {
                break;
            }
            let below = children_at(position) + least;
            self.place(position, first);
            position = below;
        }
        self.place(position, entry);
    }
}

/// Returns the position of a node's parent.
fn parent(position: usize) -> usize {
    position / ARITY + ROOT - 1
}

/// Returns the number of the family of a node's children.
fn children(position: usize) -> usize {
    position + 1 - ROOT
}

/// Returns the position of a node's first child.
fn children_at(position: usize) -> usize {
    children(position) * ARITY
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    impl TimerHeap {
        /// Checks the order of the heap and that it and the slots agree.
        fn check_invariants(&self) {
            for position in ROOT..self.end {
                let entry = self.entry(position);
                assert_eq!(self.slots.position(entry.slot()), Some(position as u32));
                assert!(self.slots.waker(entry.slot()).is_some(), "a timer without a waker");
                if position > ROOT {
                    assert!(self.entry(parent(position)).is_before(entry), "heap out of order");
                }
            }
            for (index, entry) in self.fresh.iter().enumerate() {
                assert_eq!(self.slots.position(entry.slot()), Some(FRESH + index as u32));
                assert!(self.slots.waker(entry.slot()).is_some(), "a timer without a waker");
            }
            assert!(self.fresh.len() <= MAX_FRESH);
            for position in self.end..self.families.len() * ARITY {
                assert_eq!(self.entry(position), Entry::NONE);
            }
            assert!(self.families.len() <= self.end.div_ceil(ARITY).max(1));
            assert_eq!(self.armed().count(), self.n_armed());
        }

        fn is_armed(&self, slot: TimerSlot) -> bool {
            self.slots.position(slot).is_some_and(|position| position < UNBOUND)
        }
    }

    fn arm(timers: &mut TimerHeap, deadline_ns: u64) -> TimerSlot {
        timers.arm(deadline_ns, Waker::noop().clone()).unwrap()
    }

    /// Fires all timers, as sleeps that are polled at once.
    fn fire_all(timers: &mut TimerHeap) -> Vec<TimerSlot> {
        let mut fired = Vec::new();
        while let Some(deadline_ns) = timers.next_deadline_ns() {
            let head = timers.entry(ROOT).slot();
            assert!(timers.pop_due(deadline_ns).is_some());
            assert!(matches!(timers.poll(head, Waker::noop().clone()), Polled::Fired(_)));
            fired.push(head);
        }
        timers.check_invariants();
        fired
    }

    #[test]
    fn an_entry_is_sixteen_bytes_and_four_are_a_cache_line() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!((size_of::<Family>(), align_of::<Family>()), (64, 64));
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_of_arming() {
        let mut timers = TimerHeap::default();
        let slots: Vec<_> = (0..1_000).map(|_| arm(&mut timers, 5)).collect();
        assert_eq!(fire_all(&mut timers), slots);
    }

    #[test]
    fn nothing_fires_before_its_deadline() {
        let mut timers = TimerHeap::default();
        arm(&mut timers, 10);
        assert!(timers.pop_due(9).is_none());
        assert!(timers.pop_due(10).is_some());
        assert!(timers.pop_due(u64::MAX).is_none());
    }

    #[test]
    fn a_slot_is_not_used_again_before_its_sleep_knows_that_it_has_fired() {
        let mut timers = TimerHeap::default();
        let fired = arm(&mut timers, 10);
        assert!(timers.pop_due(10).is_some());
        let other = arm(&mut timers, 20);
        assert_ne!(other, fired);
        assert!(matches!(timers.poll(fired, Waker::noop().clone()), Polled::Fired(_)));
        assert_eq!(arm(&mut timers, 30), fired);
        assert!(matches!(timers.poll(fired, Waker::noop().clone()), Polled::Armed(_)));
    }

    #[test]
    fn a_cancelled_timer_leaves_nothing_behind() {
        let mut timers = TimerHeap::default();
        let (cancelled, other) = (arm(&mut timers, 10), arm(&mut timers, 5));
        assert!(timers.cancel(cancelled).is_some());
        assert!(timers.cancel(cancelled).is_none());
        assert_eq!((timers.n_armed(), timers.slots.len()), (1, 1));
        assert_eq!(fire_all(&mut timers), [other]);
        assert_eq!(timers.slots.len(), 0);
    }

    #[test]
    fn a_reset_timer_keeps_its_waker_and_comes_after_those_armed_before() {
        let mut timers = TimerHeap::default();
        let reset = arm(&mut timers, 1);
        let others = [arm(&mut timers, 7), arm(&mut timers, 9)];
        assert!(timers.reset(reset, 7));
        assert_eq!(timers.next_deadline_ns(), Some(7));
        assert!(timers.reset(others[1], 8));
        assert!(timers.reset(others[1], NEVER_NS));
        assert_eq!(timers.n_armed(), 2);
        assert!(timers.reset(others[1], 6));
        assert_eq!(fire_all(&mut timers), [others[1], others[0], reset]);
    }

    #[test]
    fn a_timer_beyond_the_clock_waits_for_a_reset() {
        let mut timers = TimerHeap::default();
        let slot = arm(&mut timers, NEVER_NS);
        assert!(timers.pop_due(u64::MAX).is_none());
        assert_eq!((timers.n_armed(), timers.next_deadline_ns()), (0, None));
        assert!(timers.reset(slot, 3));
        assert!(timers.pop_due(3).is_some());
        assert!(!timers.reset(slot, 4));
        let slot = arm(&mut timers, NEVER_NS);
        assert!(timers.cancel(slot).is_some());
        assert_eq!(timers.slots.len(), 0);
    }

    #[test]
    fn equal_deadlines_stay_in_order_when_the_sequence_wraps() {
        let mut timers = TimerHeap { next_key: 0_u64.wrapping_sub(50 << 24), ..Default::default() };
        let slots: Vec<_> = (0..100).map(|_| arm(&mut timers, 5)).collect();
        assert!(timers.next_key < 100 << 24, "it has wrapped");
        timers.check_invariants();
        assert_eq!(fire_all(&mut timers), slots);
    }

    #[test]
    fn one_timer_more_than_there_may_be_is_refused_with_its_waker() {
        let mut timers = TimerHeap::default();
        timers.set_max_chunks(1);
        let first = arm(&mut timers, 1);
        arm(&mut timers, NEVER_NS);
        (2..4_096).for_each(|_| _ = arm(&mut timers, 2));
        assert!(timers.arm(3, Waker::noop().clone()).is_err());
        timers.check_invariants();
        timers.cancel(first);
        arm(&mut timers, 3);
    }

    #[test]
    fn memory_follows_the_number_of_timers_down() {
        let mut timers = TimerHeap::default();
        let slots: Vec<_> = (0..100_000).map(|i| arm(&mut timers, i * 7 % 1_000)).collect();
        for slot in slots {
            timers.cancel(slot);
        }
        assert!(timers.slots.capacity() <= 2 * 4_096);
        assert!(timers.families.len() <= 1);
    }

    /// Counts the moves of entries: the most in one call, and the mean.
    fn moves(timers: &mut TimerHeap, n: u64, mut call: impl FnMut(&mut TimerHeap)) -> (u64, f64) {
        let start = timers.n_moves;
        let mut most = 0;
        for _ in 0..n {
            let before = timers.n_moves;
            call(timers);
            most = most.max(timers.n_moves - before);
        }
        (most, (timers.n_moves - start) as f64 / n as f64)
    }

    #[test]
    fn no_operation_moves_more_entries_than_the_heap_is_deep() {
        for (n, depth) in [(100_u64, 4), (100_000, 9), (1_000_000, 11)] {
            let mut random = fastrand::Rng::with_seed(7);
            let mut timers = TimerHeap::default();
            let slots: Vec<_> = (0..n).map(|_| arm(&mut timers, random.u64(..1 << 40))).collect();

            // A timeout that does not elapse, in the turn that armed it and in a later one.
            timers.sort();
            let (most, _) = moves(&mut timers, 1_000, |timers| {
                let slot = arm(timers, random.u64(..1 << 40));
                timers.cancel(slot);
            });
            assert_eq!(most, 0);
            for bound in [1 << 40, 1] {
                let (most, mean) = moves(&mut timers, 1_000, |timers| {
                    let slot = arm(timers, random.u64(..bound));
                    timers.next_deadline_ns();
                    timers.cancel(slot);
                });
                assert!(most <= 2 * (depth + 1), "{n}: {most}");
                assert!(bound == 1 || mean <= 4.0, "{n}: {mean}");
            }
            // A million that are armed in one turn are put in order a few at a time.
            let mut late = Vec::new();
            let (most, mean) = moves(&mut timers, 1_000, |timers| late.push(arm(timers, 0)));
            assert!(most <= MAX_FRESH as u64 * (depth + 2), "{n}: {most}");
            assert!(mean <= (depth + 2) as f64, "{n}: {mean}");
            late.into_iter().for_each(|slot| _ = timers.cancel(slot));
            // An idle timeout that is reset.
            let (most, _) = moves(&mut timers, n.min(10_000), |timers| {
                let slot = slots[random.usize(..slots.len())];
                timers.reset(slot, random.u64(..1 << 40));
            });
            assert!(most <= depth + 1, "{n}: {most}");
            // Timers that are dropped at any position: half of them, in the order of arming.
            let mut dropped = slots[..slots.len() / 2].iter();
            let (most, mean) = moves(&mut timers, n / 2, |timers| {
                timers.cancel(*dropped.next().unwrap());
            });
            assert!(most <= depth + 1, "{n}: {most}");
            assert!(mean <= 4.0, "{n}: {mean}");
            timers.check_invariants();
            let (most, _) = moves(&mut timers, n / 2, |timers| {
                timers.pop_due(u64::MAX);
            });
            assert!(most <= depth + 1, "{n}: {most}");
            assert_eq!(timers.n_armed(), 0);
        }
    }

    #[test]
    fn cancelling_a_timer_does_not_put_those_in_order_that_were_armed_since() {
        let mut timers = TimerHeap::default();
        let slots: Vec<_> = (0..1_000).map(|i| arm(&mut timers, 1_000 + i)).collect();
        timers.sort();
        let fresh: Vec<_> = (0..MAX_FRESH).map(|_| arm(&mut timers, 0)).collect();
        let (most, _) = moves(&mut timers, 10, |timers| _ = timers.cancel(slots[500]));
        assert!(most <= 6, "{most}");
        let (most, _) = moves(&mut timers, 10, |timers| _ = timers.cancel(fresh[7]));
        assert_eq!(most, 0);
        timers.check_invariants();
        assert_eq!(timers.n_armed(), 1_000 + MAX_FRESH - 2);
    }

    /// An operation of a test.
    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Cancel(prop::sample::Index),
        Reset(prop::sample::Index, u64),
        CancelMost,
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..64_u64).prop_map(Step::Arm),
            4 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            4 => (any::<prop::sample::Index>(), 0..64_u64).prop_map(|(i, ns)| Step::Reset(i, ns)),
            1 => Just(Step::CancelMost),
            2 => (0..32_u64).prop_map(Step::Advance),
        ]
    }

    /// Identifies a waker, so that a test knows which timer has fired.
    struct Named(Arc<Mutex<Vec<usize>>>, usize);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    /// A timer of the model, a plain list: the first entry fires first.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    struct Modelled {
        deadline_ns: u64,
        /// The number of the arming or reset.
        order: usize,
        name: usize,
        slot: u32,
    }

    proptest! {
        #[test]
        fn any_script_fires_what_a_sorted_list_would(
            steps in prop::collection::vec(step(), 1..400),
            wraps in any::<bool>(),
        ) {
            let fired = Arc::new(Mutex::new(Vec::new()));
            let next_key = if wraps { 0_u64.wrapping_sub(100 << 24) } else { 0 };
            let mut timers = TimerHeap { next_key, ..Default::default() };
            let mut model: Vec<Modelled> = Vec::new();
            let (mut now_ns, mut order) = (0, 0);
            for step in steps {
                order += 1;
                match step {
                    Step::Arm(after_ns) => {
                        let waker = Arc::new(Named(Arc::clone(&fired), order)).into();
                        let deadline_ns = now_ns + after_ns;
                        let slot = timers.arm(deadline_ns, waker).unwrap().0;
                        model.push(Modelled { deadline_ns, order, name: order, slot });
                    }
                    Step::Cancel(index) if !model.is_empty() => {
                        let slot = TimerSlot(model.remove(index.index(model.len())).slot);
                        prop_assert!(timers.cancel(slot).is_some());
                        prop_assert!(!timers.is_armed(slot));
                    }
                    Step::Reset(index, after_ns) if !model.is_empty() => {
                        let index = index.index(model.len());
                        model[index].deadline_ns = now_ns + after_ns;
                        model[index].order = order;
                        prop_assert!(timers.reset(TimerSlot(model[index].slot), now_ns + after_ns));
                    }
                    Step::Cancel(_) | Step::Reset(..) => {}
                    Step::CancelMost => {
                        for modelled in model.split_off(model.len() / 5) {
                            prop_assert!(timers.cancel(TimerSlot(modelled.slot)).is_some());
                        }
                    }
                    Step::Advance(by_ns) => {
                        now_ns += by_ns;
                        fired.lock().unwrap().clear();
                        while let Some(waker) = timers.pop_due(now_ns) {
                            waker.wake();
                        }
                        model.sort_unstable();
                        let n_due = model.partition_point(|timer| timer.deadline_ns <= now_ns);
                        let due: Vec<_> = model.drain(..n_due).collect();
                        for timer in &due {
                            let polled = timers.poll(TimerSlot(timer.slot), Waker::noop().clone());
                            prop_assert!(matches!(polled, Polled::Fired(_)));
                        }
                        let due: Vec<_> = due.iter().map(|timer| timer.name).collect();
                        prop_assert_eq!(&*fired.lock().unwrap(), &due);
                    }
                }
                timers.check_invariants();
                let first = model.iter().map(|timer| timer.deadline_ns).min();
                prop_assert_eq!(timers.next_deadline_ns(), first);
                prop_assert_eq!(timers.n_armed(), model.len());
                prop_assert_eq!(timers.slots.len(), model.len());
            }
        }
    }
}
