//! The deadlines of a loop: asyncio's *scheduled* queue.
//!
//! A heap of four children a node, ordered by (deadline, sequence), so that equal deadlines fire
//! first-in first-out. Cancelling leaves the entry where it is, unless it is the last of the
//! heap, as that of a timeout that did not happen usually is; when most entries are dead, the
//! heap is rebuilt without them.
//!
//! # Complexity
//! Arming is O(log n), and O(1) for a deadline later than its ancestors'. Cancelling is O(1)
//! amortised.

use std::mem;
use std::task::Waker;

use crate::free_list::{FreeList, trim};

/// Names one armed timer: its sequence number and slot. Never reused but after 2⁴⁰ timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(u64);

impl TimerKey {
    const SLOT_BITS: u32 = 24;
    const MAX_SLOTS: usize = 1 << TimerKey::SLOT_BITS;

    fn new(sequence: u64, slot: u32) -> TimerKey {
        TimerKey(sequence << TimerKey::SLOT_BITS | u64::from(slot))
    }

    fn slot(self) -> usize {
        self.0 as usize & (TimerKey::MAX_SLOTS - 1)
    }

    pub(crate) fn from_raw(raw: u64) -> TimerKey {
        TimerKey(raw)
    }

    pub(crate) fn raw(self) -> u64 {
        self.0
    }
}

/// Children of a node. Four make the heap half as deep as two, and share a cache line.
const ARITY: usize = 4;

/// Dead entries below this number are never worth a rebuild (asyncio's figure).
const REBUILD_MIN: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline_ns: u64,
    key: TimerKey,
}

/// One timer's waker, or the room for one.
struct Slot {
    /// Invariant: equals the key of a heap entry if and only if that entry is alive.
    key: Option<TimerKey>,
    waker: Option<Waker>,
}

/// Holds the timers of one loop. Like the tasks, it runs no foreign code.
pub(crate) struct TimerHeap {
    heap: Vec<Entry>,
    slots: Vec<Slot>,
    free: FreeList,
    next_sequence: u64,
}

impl Default for TimerHeap {
    fn default() -> TimerHeap {
        TimerHeap { heap: Vec::new(), slots: Vec::new(), free: FreeList::new(), next_sequence: 0 }
    }
}

impl TimerHeap {
    /// Returns the number of timers that are armed.
    pub(crate) fn n_armed(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Leaves `waker` to be woken at `deadline_ns`.
    ///
    /// # Panics
    /// If 16,777,216 timers are armed.
    pub(crate) fn arm(&mut self, deadline_ns: u64, waker: Waker) -> TimerKey {
        let slot = self.free.pop().unwrap_or_else(|| self.add_slot());
        let key = TimerKey::new(self.next_sequence, slot);
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.slots[slot as usize] = Slot { key: Some(key), waker: Some(waker) };
        self.heap.push(Entry { deadline_ns, key });
        self.sift_up(self.heap.len() - 1);
        key
    }

    #[cold]
    fn add_slot(&mut self) -> u32 {
        self.free.unretire(&self.slots, |slot| slot.key.is_none());
        if let Some(index) = self.free.pop() {
            return index;
        }
        assert!(self.slots.len() < TimerKey::MAX_SLOTS, "a loop holds 16,777,216 timers");
        self.slots.push(Slot { key: None, waker: None });
        (self.slots.len() - 1) as u32
    }

    /// Lists the timers that are armed, in no particular order: when each is due, and its waker.
    pub(crate) fn armed(&self) -> impl Iterator<Item = (u64, &Waker)> {
        self.heap.iter().filter_map(|entry| {
            let slot = self.slots.get(entry.key.slot())?;
            let waker = slot.waker.as_ref().filter(|_| slot.key == Some(entry.key))?;
            Some((entry.deadline_ns, waker))
        })
    }

    /// Reports whether the timer is armed: neither fired nor cancelled.
    pub(crate) fn is_armed(&self, key: TimerKey) -> bool {
        self.slots.get(key.slot()).is_some_and(|slot| slot.key == Some(key))
    }

    /// Replaces the waker of an armed timer; returns the old one, to be dropped elsewhere.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: Waker) -> Option<Waker> {
        debug_assert!(self.is_armed(key));
        self.slots[key.slot()].waker.replace(waker)
    }

    /// Forgets a timer, if it is still armed; returns its waker, to be dropped elsewhere.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        if !self.is_armed(key) {
            return None;
        }
        let waker = self.disarm(key);
        if self.heap.last().is_some_and(|last| last.key == key) {
            self.heap.pop();
        }
        let n_dead = self.heap.len() - self.n_armed();
        if n_dead > REBUILD_MIN && n_dead > self.heap.len() / 2 {
            self.rebuild();
        }
        waker
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline_ns(&mut self) -> Option<u64> {
        while let Some(head) = self.heap.first() {
            if self.is_armed(head.key) {
                return Some(head.deadline_ns);
            }
            self.pop();
        }
        None
    }

    /// Takes the earliest timer if it is due at `now_ns`.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Waker> {
        if self.next_deadline_ns()? > now_ns {
            return None;
        }
        let head = self.pop()?;
        self.disarm(head.key)
    }

    /// Empties the slot of an armed timer.
    fn disarm(&mut self, key: TimerKey) -> Option<Waker> {
        let slot = &mut self.slots[key.slot()];
        slot.key = None;
        let waker = slot.waker.take();
        self.free.push(key.slot() as u32);
        waker
    }

    /// Gives memory back if few of the slots have been needed lately. The loop calls it when it
    /// has nothing to do.
    #[inline]
    pub(crate) fn rest(&mut self) {
        if let Some(len) = self.free.rest(self.slots.len()) {
            self.slots.truncate(len);
            self.slots.shrink_to_fit();
            trim(&mut self.heap, len);
        }
    }

    /// Removes the head of the heap.
    fn pop(&mut self) -> Option<Entry> {
        let last = self.heap.pop()?;
        let Some(head) = self.heap.first_mut() else { return Some(last) };
        let head = mem::replace(head, last);
        self.sift_down(0);
        Some(head)
    }

    /// Drops the dead entries. O(n), after at least n / 2 cancellations.
    fn rebuild(&mut self) {
        let slots = &self.slots;
        self.heap.retain(|entry| {
            slots.get(entry.key.slot()).is_some_and(|slot| slot.key == Some(entry.key))
        });
        let len = self.heap.len();
        trim(&mut self.heap, len);
        for index in (0..self.heap.len().div_ceil(ARITY)).rev() {
            self.sift_down(index);
        }
        self.check_invariants();
    }

    fn sift_up(&mut self, mut index: usize) {
        let entry = self.heap[index];
        while index > 0 {
            let parent = (index - 1) / ARITY;
            if self.heap[parent] <= entry {
                break;
            }
            self.heap[index] = self.heap[parent];
            index = parent;
        }
        self.heap[index] = entry;
    }

    fn sift_down(&mut self, mut index: usize) {
        let Some(&entry) = self.heap.get(index) else { return };
        loop {
            let first = index * ARITY + 1;
            let last = (first + ARITY).min(self.heap.len());
            let Some(least) = (first..last).min_by_key(|child| self.heap[*child]) else { break };
            if self.heap[least] >= entry {
                break;
            }
            self.heap[index] = self.heap[least];
            index = least;
        }
        self.heap[index] = entry;
    }

    /// Checks the order of the heap and the count of the living, in debug builds.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            for index in 1..self.heap.len() {
                assert!(self.heap[(index - 1) / ARITY] <= self.heap[index], "heap out of order");
            }
            let n_alive = self.heap.iter().filter(|entry| self.is_armed(entry.key)).count();
            assert_eq!(n_alive, self.n_armed(), "a timer without an entry, or two");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    fn arm(timers: &mut TimerHeap, deadline_ns: u64) -> TimerKey {
        timers.arm(deadline_ns, Waker::noop().clone())
    }

    fn fire_all(timers: &mut TimerHeap) -> Vec<TimerKey> {
        let mut fired = Vec::new();
        while let Some(deadline_ns) = timers.next_deadline_ns() {
            let head = timers.heap[0].key;
            assert!(timers.pop_due(deadline_ns).is_some());
            fired.push(head);
            timers.check_invariants();
        }
        fired
    }

    #[test]
    fn an_entry_is_sixteen_bytes() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_of_arming() {
        let mut timers = TimerHeap::default();
        let keys: Vec<_> = (0..1_000).map(|_| arm(&mut timers, 5)).collect();
        assert_eq!(fire_all(&mut timers), keys);
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
    fn a_cancelled_timer_does_not_fire_and_its_key_stays_dead() {
        let mut timers = TimerHeap::default();
        let key = arm(&mut timers, 10);
        let other = arm(&mut timers, 5);
        assert!(timers.cancel(key).is_some());
        assert!(timers.cancel(key).is_none());
        let reused = arm(&mut timers, 20);
        assert_eq!(reused.slot(), key.slot());
        assert!(!timers.is_armed(key));
        assert_eq!(fire_all(&mut timers), [other, reused]);
    }

    #[test]
    fn a_million_cancelled_timers_leave_the_heap_small() {
        let mut timers = TimerHeap::default();
        let alive: Vec<_> = (0..1_000).map(|i| arm(&mut timers, 1_000_000 + i)).collect();
        for i in 0..1_000_000 {
            // Earlier than all the others, so that it is never the last of the heap.
            let key = arm(&mut timers, i % 1_000);
            timers.cancel(key);
            assert!(timers.heap.len() <= 2 * alive.len() + REBUILD_MIN + 1);
        }
        assert_eq!(fire_all(&mut timers), alive);
    }

    #[test]
    fn a_timeout_that_did_not_happen_leaves_no_entry() {
        let mut timers = TimerHeap::default();
        arm(&mut timers, 10);
        let key = arm(&mut timers, 20);
        timers.cancel(key);
        assert_eq!(timers.heap.len(), 1);
    }

    #[test]
    fn random_deadlines_fire_in_order_among_random_cancellations() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut timers = TimerHeap::default();
        let mut model = Vec::new();
        for _ in 0..20_000 {
            if random.u8(..) < 160 || model.is_empty() {
                let deadline_ns = random.u64(..500);
                model.push((deadline_ns, arm(&mut timers, deadline_ns)));
            } else {
                let (_, key) = model.swap_remove(random.usize(..model.len()));
                assert!(timers.cancel(key).is_some());
            }
        }
        model.sort_unstable();
        let expected: Vec<_> = model.into_iter().map(|(_, key)| key).collect();
        assert_eq!(fire_all(&mut timers), expected);
    }

    /// What a test does to the heap.
    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Cancel(prop::sample::Index),
        /// Cancel most of them, so that the heap is rebuilt.
        CancelMost,
        Advance(u64),
        Rest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..64_u64).prop_map(Step::Arm),
            4 => any::<prop::sample::Index>().prop_map(Step::Cancel),
            1 => Just(Step::CancelMost),
            2 => (0..32_u64).prop_map(Step::Advance),
            1 => Just(Step::Rest),
        ]
    }

    /// Names a waker, so that it can be told which timer has fired.
    struct Named(Arc<Mutex<Vec<usize>>>, usize);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    proptest! {
        #[test]
        fn any_script_fires_what_a_sorted_list_would(
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let fired = Arc::new(Mutex::new(Vec::new()));
            let mut timers = TimerHeap::default();
            // Armed timers by (deadline, order of arming): what comes first fires first.
            let mut model: Vec<(u64, usize, TimerKey)> = Vec::new();
            let (mut now_ns, mut n_armed) = (0, 0);
            for step in steps {
                match step {
                    Step::Arm(after_ns) => {
                        let waker = Arc::new(Named(Arc::clone(&fired), n_armed)).into();
                        let deadline_ns = now_ns + after_ns;
                        model.push((deadline_ns, n_armed, timers.arm(deadline_ns, waker)));
                        n_armed += 1;
                    }
                    Step::Cancel(index) if !model.is_empty() => {
                        let (.., key) = model.remove(index.index(model.len()));
                        prop_assert!(timers.cancel(key).is_some());
                        prop_assert!(!timers.is_armed(key));
                    }
                    Step::Cancel(_) => {}
                    Step::CancelMost => {
                        for (.., key) in model.split_off(model.len() / 5) {
                            prop_assert!(timers.cancel(key).is_some());
                        }
                    }
                    Step::Advance(by_ns) => {
                        now_ns += by_ns;
                        fired.lock().unwrap().clear();
                        while let Some(waker) = timers.pop_due(now_ns) {
                            waker.wake();
                        }
                        model.sort_unstable_by_key(|(deadline_ns, order, _)| (*deadline_ns, *order));
                        let n_due = model.partition_point(|(deadline_ns, ..)| *deadline_ns <= now_ns);
                        let due: Vec<_> = model.drain(..n_due).map(|(_, order, _)| order).collect();
                        prop_assert_eq!(&*fired.lock().unwrap(), &due);
                    }
                    Step::Rest => timers.rest(),
                }
                timers.check_invariants();
                let first = model.iter().map(|(deadline_ns, ..)| *deadline_ns).min();
                prop_assert_eq!(timers.next_deadline_ns(), first);
                prop_assert_eq!(timers.n_armed(), model.len());
                prop_assert!(timers.heap.len() <= 2 * model.len() + REBUILD_MIN + 1);
            }
        }
    }
}
