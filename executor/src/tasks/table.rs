//! A table that grows and shrinks with its load, in steps of bounded length.
//!
//! The first slots are in one list, because most tables need no others and should not pay for finding them. When three
//! quarters of the list have been free for a while, it is halved. Further slots are in chunks, so that growth moves
//! nothing. A slot is taken from the first list if possible, else from one chunk until that is full, then from the first
//! chunk with a free slot, so that the later chunks become empty when the load falls. A few of the chunks that have been
//! empty for a while are released whenever the loop polls for events or goes to sleep ([`Table::tidy`]). A table that
//! fills and empties periodically keeps its chunks.

use std::mem;
use std::ops::{Index, IndexMut};

/// The most slots of the first list: a MiB of tasks, which moves in some 50 µs when it grows.
const NEAR: usize = 16_384;

/// The slots of a chunk.
const CHUNK: usize = 4_096;

/// How long a chunk stays when it is empty, in steps of [`Table::tidy`].
///
/// A busy loop makes a step every 128 polls, so this is about 100,000 polls: longer than the load peaks that are worth
/// keeping chunks for.
const EMPTY_STEPS: u32 = 1_024;

/// How often the length of the first list is checked, in steps of [`Table::tidy`].
const NEAR_STEPS: u32 = EMPTY_STEPS;

/// The minimum length of the first list after it was shortened.
const NEAR_MIN: usize = 1_024;

/// How many chunks one step checks.
const CHECKS_PER_STEP: usize = 16;

/// How many chunks one step goes through slot by slot, to release them.
const CHUNKS_PER_STEP: usize = 2;

/// The end of a chunk's list of free slots.
const NONE: u32 = u32::MAX;

/// An element of a table.
pub(crate) trait Slot {
    /// Returns the word that [`set_link`](Slot::set_link) has stored. Called only for free slots.
    fn link(&self) -> u32;

    /// Stores a word while the slot is free.
    fn set_link(&mut self, link: u32);

    /// Returns the generation of the next owner of a free slot, if the slot can be released.
    fn generation(&self) -> Option<u32>;
}

/// Slots by number.
#[derive(Debug)]
pub(crate) struct Table<T> {
    near: Vec<T>,
    /// The free near slots, the last freed last. Its capacity suffices for all of them.
    near_free: Vec<u32>,
    /// The generation of a new near slot.
    near_generation: u32,
    /// The minimum number of free near slots in the steps since the last check.
    near_least: usize,
    /// The step of the next check.
    near_due: u32,
    far: Vec<Chunk<T>>,
    /// The chunk that slots are taken from.
    current: usize,
    /// A bit per chunk: set if it has a free slot.
    room: Vec<u64>,
    /// The maximum number of slots.
    max_len: usize,
    first_generation: u32,
    /// The steps of [`tidy`](Table::tidy) so far.
    n_steps: u32,
    /// The chunk that the next step checks.
    next_check: usize,
    /// Whether an empty chunk was found in this round through all chunks, and in the last one.
    is_roomy: [bool; 2],
}

/// Some of the slots beyond the near ones.
#[derive(Debug)]
struct Chunk<T> {
    /// `None` where it was released.
    slots: Vec<T>,
    /// The slot that was freed last.
    free: u32,
    /// The slots that are taken.
    n_taken: u32,
    /// The generation of a new slot.
    first_generation: u32,
    /// The step in which the last of its slots became free.
    empty_since: u32,
}

/// Returns the chunk of a slot that is not near, and the slot's place there.
fn place_of(index: u32) -> (usize, usize) {
    let index = index as usize - NEAR;
    (index / CHUNK, index % CHUNK)
}

impl<T: Slot> Table<T> {
    pub(crate) fn new(max_len: usize, first_generation: u32) -> Table<T> {
        Table {
            near: Vec::new(),
            near_free: Vec::new(),
            near_generation: first_generation,
            near_least: 0,
            near_due: NEAR_STEPS,
            far: Vec::new(),
            current: 0,
            room: Vec::new(),
            max_len,
            first_generation,
            n_steps: 0,
            next_check: 0,
            is_roomy: [false; 2],
        }
    }

    #[cfg(test)]
    pub(crate) fn limit_to(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn age_to(&mut self, generation: u32) {
        assert!(self.far.is_empty(), "no test needs it");
        self.first_generation = generation;
        self.near_generation = generation;
    }

    /// Returns the generation of new slots, except those that replace released ones.
    pub(crate) fn first_generation(&self) -> u32 {
        self.first_generation
    }

    /// Returns the number of slots that are taken. O(chunks).
    pub(crate) fn n_taken(&self) -> usize {
        let far: usize = self.far.iter().map(|chunk| chunk.n_taken as usize).sum();
        self.near.len() - self.near_free.len() + far
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        match self.near.get(index as usize) {
            None => self.get_far(index),
            slot => slot,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        if (index as usize) < self.near.len() {
            return self.near.get_mut(index as usize);
        }
        self.get_far_mut(index)
    }

    #[inline(never)]
    fn get_far(&self, index: u32) -> Option<&T> {
        let index = (index as usize).checked_sub(NEAR)?;
        self.far.get(index / CHUNK)?.slots.get(index % CHUNK)
    }

    #[inline(never)]
    fn get_far_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = (index as usize).checked_sub(NEAR)?;
        self.far.get_mut(index / CHUNK)?.slots.get_mut(index % CHUNK)
    }

    /// Lists all slots, including free ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.near.iter().chain(self.far.iter().flat_map(|chunk| &chunk.slots))
    }

    /// Finds a slot that `is_wanted`, from number `from` on.
    pub(crate) fn find(&self, from: u32, is_wanted: impl Fn(&T) -> bool) -> Option<&T> {
        (from..self.end()).filter_map(|index| self.get(index)).find(|slot| is_wanted(slot))
    }

    /// Returns a number past those of all slots.
    pub(crate) fn end(&self) -> u32 {
        match self.far.last() {
            Some(last) => (NEAR + (self.far.len() - 1) * CHUNK + last.slots.len()) as u32,
            None => self.near.len() as u32,
        }
    }

    /// Returns a generation that no owner of any slot has had, or a later one. `of` returns that of a slot.
    pub(crate) fn unused_generation(&self, of: impl Fn(&T) -> u32) -> u32 {
        let slots = self.iter().map(|slot| of(slot) + 1).max().unwrap_or(0);
        let chunks = self.far.iter().map(|chunk| chunk.first_generation).max().unwrap_or(0);
        slots.max(chunks).max(self.near_generation)
    }

    /// Takes a slot. Returns `None` if the table has the maximum number.
    ///
    /// `new` makes an unused slot from its number and the generation of its first owner.
    #[inline]
    pub(crate) fn claim(&mut self, new: impl FnOnce(u32, u32) -> T) -> Option<u32> {
        if let Some(index) = self.near_free.pop() {
            return Some(index);
        }
        self.claim_slowly(new)
    }

    /// Takes a slot from a chunk, because no near one is free.
    #[inline(never)]
    fn claim_slowly(&mut self, new: impl FnOnce(u32, u32) -> T) -> Option<u32> {
        let index = self.near.len();
        if index < NEAR {
            if index >= self.max_len {
                return None;
            }
            self.near.push(new(index as u32, self.near_generation));
            let n_free = self.near_free.len();
            self.near_free.reserve_exact(self.near.capacity() - n_free);
            return Some(index as u32);
        }
        loop {
            let Some(chunk) = self.far.get_mut(self.current) else {
                self.current = self.chunk_with_room()?;
                continue;
            };
            let base = NEAR + self.current * CHUNK;
            let mut place = chunk.free as usize;
            if chunk.free != NONE {
                chunk.free = chunk.slots[place].link();
            } else {
                place = chunk.slots.len();
                if place == CHUNK || base + place >= self.max_len {
                    self.room[self.current / 64] &= !(1 << (self.current % 64));
                    self.current = self.chunk_with_room()?;
                    continue;
                }
                if place == 0 {
                    chunk.slots.reserve_exact(CHUNK);
                }
                chunk.slots.push(new((base + place) as u32, chunk.first_generation));
            }
            chunk.n_taken += 1;
            return Some((base + place) as u32);
        }
    }

    /// Finds the first chunk with a free slot, or makes one.
    fn chunk_with_room(&mut self) -> Option<usize> {
        let mut words = self.room.iter().enumerate();
        if let Some((i, word)) = words.find(|(_, word)| **word != 0) {
            return Some(64 * i + word.trailing_zeros() as usize);
        }
        let number = self.far.len();
        if NEAR + number * CHUNK >= self.max_len {
            return None;
        }
        self.far.push(Chunk {
            slots: Vec::new(),
            free: NONE,
            n_taken: 0,
            first_generation: self.first_generation,
            empty_since: 0,
        });
        if number / 64 == self.room.len() {
            self.room.push(0);
        }
        self.room[number / 64] |= 1 << (number % 64);
        Some(number)
    }

    /// Reports whether [`claim`](Table::claim) would find a slot.
    pub(crate) fn has_room(&mut self, new: impl FnOnce(u32, u32) -> T) -> bool {
        let index = self.claim(new);
        index.map(|index| self.free(index)).is_some()
    }

    /// Frees a slot.
    #[inline]
    pub(crate) fn free(&mut self, index: u32) {
        if (index as usize) < NEAR {
            self.near_free.push(index);
        } else {
            self.free_far(index);
        }
    }

    #[inline(never)]
    fn free_far(&mut self, index: u32) {
        let (number, place) = place_of(index);
        let chunk = &mut self.far[number];
        chunk.slots[place].set_link(chunk.free);
        chunk.free = place as u32;
        chunk.n_taken -= 1;
        if chunk.n_taken == 0 {
            chunk.empty_since = self.n_steps;
        }
        self.room[number / 64] |= 1 << (number % 64);
    }

    /// Counts `n_steps` steps, and releases a few of the chunks that have been empty for a while.
    ///
    /// Their slots' contents are passed to `clear`. Returns whether there may be more to release, now or later.
    #[inline]
    pub(crate) fn tidy(&mut self, n_steps: u32, mut clear: impl FnMut(T)) -> bool {
        self.n_steps = self.n_steps.wrapping_add(n_steps);
        if self.near.len() > NEAR_MIN {
            self.tidy_near(&mut clear);
        }
        !self.far.is_empty() && self.tidy_far(clear)
    }

    /// Halves the first list if that is due, and no slot of the upper half is in use.
    #[inline(never)]
    fn tidy_near(&mut self, clear: impl FnMut(T)) {
        self.near_least = self.near_least.min(self.near_free.len());
        if (self.near_due.wrapping_sub(self.n_steps) as i32) > 0 {
            return;
        }
        self.near_due = self.n_steps.wrapping_add(NEAR_STEPS);
        let least = mem::replace(&mut self.near_least, self.near_free.len());
        let half = self.near.len() / 2;
        if least < self.near.len() / 4 * 3 {
            return;
        }
        let n_free = self.near_free.iter().filter(|index| **index as usize >= half).count();
        let mut generations = self.near[half..].iter().map(Slot::generation);
        let generation = generations.try_fold(0, |max, next| Some(next?.max(max)));
        if let Some(generation) = generation
            && n_free == self.near.len() - half
        {
            self.near_generation = generation.max(self.near_generation);
            self.near_free.retain(|index| (*index as usize) < half);
            self.near.drain(half..).for_each(clear);
            self.near.shrink_to_fit();
            self.near_free.shrink_to(half);
            self.near_least = self.near_free.len();
        }
    }

    #[inline(never)]
    fn tidy_far(&mut self, mut clear: impl FnMut(T)) -> bool {
        let mut n_gone_through = 0;
        for _ in 0..CHECKS_PER_STEP.min(self.far.len()) {
            let number = self.next_check;
            self.next_check += 1;
            if self.next_check >= self.far.len() {
                self.next_check = 0;
                self.is_roomy = [false, self.is_roomy[0]];
                // From here on, slots are taken from the first chunk with a free one.
                self.current = self.chunk_with_room().unwrap_or(self.current);
            }
            let chunk = &mut self.far[number];
            if chunk.n_taken > 0 || chunk.slots.is_empty() {
                continue;
            }
            self.is_roomy[0] = true;
            if self.n_steps.wrapping_sub(chunk.empty_since) < EMPTY_STEPS {
                continue;
            }
            let mut generations = chunk.slots.iter().map(Slot::generation);
            let generation = generations.try_fold(0, |max, next| Some(next?.max(max)));
            if let Some(generation) = generation {
                chunk.first_generation = generation.max(chunk.first_generation);
                chunk.free = NONE;
                mem::take(&mut chunk.slots).into_iter().for_each(&mut clear);
            }
            n_gone_through += 1;
            if n_gone_through == CHUNKS_PER_STEP {
                break;
            }
        }
        self.is_roomy[0] || self.is_roomy[1]
    }
}

/// Why a slot exists.
const GIVEN: &str = "a slot that was claimed is there";

impl<T: Slot> Index<u32> for Table<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect(GIVEN)
    }
}

impl<T: Slot> IndexMut<u32> for Table<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect(GIVEN)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[derive(Debug)]
    struct Place {
        generation: u32,
        link: u32,
        is_queued: bool,
    }

    impl Slot for Place {
        fn link(&self) -> u32 {
            self.link
        }

        fn set_link(&mut self, link: u32) {
            self.link = link;
            self.generation += 1;
        }

        fn generation(&self) -> Option<u32> {
            (!self.is_queued).then_some(self.generation)
        }
    }

    const MAX: usize = 1 << 24;

    fn table() -> Table<Place> {
        Table::new(MAX, 5)
    }

    fn claim(table: &mut Table<Place>) -> Option<u32> {
        table.claim(|_, generation| Place { generation, link: 0, is_queued: false })
    }

    fn fill(table: &mut Table<Place>, n: usize) -> Vec<u32> {
        (0..n).map(|_| claim(table).unwrap()).collect()
    }

    /// Takes steps until nothing is left to release; returns their number, and the maximum number of slots that one step
    /// has visited.
    fn tidy_all(table: &mut Table<Place>) -> (usize, usize) {
        let (mut n_steps, mut longest) = (0, 0);
        loop {
            n_steps += 1;
            let mut n_cleared = 0;
            let has_more = table.tidy(64, |_| n_cleared += 1);
            longest = longest.max(n_cleared);
            if !has_more {
                return (n_steps, longest);
            }
            assert!(n_steps < 10_000, "it does not come to an end");
        }
    }

    fn n_slots(table: &Table<Place>) -> usize {
        table.near.capacity() + table.far.iter().map(|chunk| chunk.slots.capacity()).sum::<usize>()
    }

    #[test]
    fn a_million_slots_are_given_back_in_small_steps() {
        let mut table = table();
        let taken = fill(&mut table, 1_000_000);
        assert_eq!(table.n_taken(), 1_000_000);
        assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 1_000_000, "each once");
        assert!(!table.tidy(64, |_| unreachable!()), "nothing to give back");
        taken.iter().for_each(|index| table.free(*index));
        let (n_steps, longest) = tidy_all(&mut table);
        for _ in 0..100 {
            table.tidy(64, |_| ());
        }
        assert_eq!((table.n_taken(), n_slots(&table)), (0, NEAR_MIN));
        assert!(longest <= CHUNKS_PER_STEP * CHUNK + NEAR / 2, "{longest} slots in one step");
        assert!(n_steps < 300, "{n_steps} steps");
        // Reused numbers have later generations.
        for index in fill(&mut table, 1_000_000).into_iter().filter(|index| *index >= NEAR as u32) {
            assert!(table[index].generation > 5);
        }
    }

    #[test]
    fn few_slots_keep_their_chunks_only() {
        let mut table = table();
        let taken = fill(&mut table, 500_000);
        let (kept, gone): (Vec<u32>, Vec<u32>) =
            taken.into_iter().partition(|index| [7, 20_000, 300_000].contains(index));
        gone.into_iter().for_each(|index| table.free(index));
        tidy_all(&mut table);
        for _ in 0..100 {
            table.tidy(64, |_| ());
        }
        assert_eq!(n_slots(&table), NEAR_MIN + 2 * CHUNK);
        assert_eq!(table.iter().count(), NEAR_MIN + 2 * CHUNK);
        assert!(kept.iter().all(|index| table.get(*index).is_some()));
        assert!(table.get(400_000).is_none() && table.get(u32::MAX).is_none());
        assert_eq!(table.find(300_001, |_| true).map(|slot| slot.generation), Some(6));
        // New owners get slots before those far up.
        let again = fill(&mut table, NEAR + 2_000);
        assert!(again.iter().all(|index| *index < 30_000), "{:?}", again.iter().max());
    }

    #[test]
    fn a_table_that_fills_and_empties_in_waves_keeps_its_size() {
        let mut table = table();
        for _ in 0..20 {
            let taken = fill(&mut table, 100_000);
            // A load peak is longer than the interval of the steps.
            table.tidy(1, |_| panic!("given back within a wave"));
            taken.into_iter().for_each(|index| table.free(index));
            for _ in 0..800 {
                table.tidy(1, |_| panic!("given back between two waves"));
            }
        }
    }

    #[test]
    fn a_slot_that_is_queued_keeps_its_chunk() {
        let mut table = table();
        let taken = fill(&mut table, 50_000);
        table[40_000].is_queued = true;
        taken.into_iter().for_each(|index| table.free(index));
        for _ in 0..1_000 {
            table.tidy(64, drop);
        }
        assert_eq!(n_slots(&table), NEAR_MIN + CHUNK);
        table[40_000].is_queued = false;
        tidy_all(&mut table);
        assert_eq!(n_slots(&table), NEAR_MIN);
    }

    #[test]
    fn the_limit_holds_wherever_it_lies() {
        for limit in [0, 1, 5_000, NEAR, NEAR + 1, NEAR + CHUNK, NEAR + 3 * CHUNK + 17] {
            let mut table = Table::new(limit, 0);
            let taken = fill(&mut table, limit);
            assert_eq!(claim(&mut table), None);
            let Some(last) = taken.last() else { continue };
            table.free(*last);
            assert_eq!(claim(&mut table), Some(*last));
            assert_eq!(claim(&mut table), None);
        }
    }

    #[test]
    fn random_claims_and_releases_never_give_a_slot_twice() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut table = table();
        let mut taken: Vec<u32> = Vec::new();
        for round in 0..60 {
            let aim = if round % 2 == 0 { random.usize(..60_000) } else { random.usize(..100) };
            while taken.len() < aim {
                taken.push(claim(&mut table).unwrap());
            }
            while taken.len() > aim {
                let index = taken.swap_remove(random.usize(..taken.len()));
                table.free(index);
            }
            assert_eq!(table.n_taken(), taken.len());
            assert_eq!(taken.iter().collect::<HashSet<_>>().len(), taken.len());
            for _ in 0..random.usize(..200) {
                table.tidy(random.u32(..64), drop);
            }
            assert!(taken.iter().all(|index| table.get(*index).is_some()));
        }
    }
}
