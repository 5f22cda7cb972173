//! The slots of a loop's timers: for each timer its position in the heap, and its waker.
//!
//! A timer is identified by its slot, which belongs to one [`Sleep`](crate::Sleep) from the poll that arms it until the
//! sleep has elapsed, is reset on another thread, or is dropped. So a slot never identifies two timers, and needs no
//! generation.
//!
//! Slots are allocated in chunks of 4,096. A chunk is freed with the last of its slots, so memory shrinks with the
//! number of timers, and no step is longer than the allocation of one chunk.

use std::mem;
use std::task::Waker;

const CHUNK_BITS: u32 = 12;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

/// Marks a slot that no sleep owns. The lower bits are the next such slot of the chunk.
const FREE: u32 = 1 << 31;
/// The end of a chunk's list of free slots.
const NO_SLOT: u32 = CHUNK_LEN as u32;

/// Identifies a timer of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerSlot(pub(crate) u32);

impl TimerSlot {
    /// The width of a slot's number.
    pub(crate) const BITS: u32 = 24;

    pub(crate) const FIRST: TimerSlot = TimerSlot(0);

    fn chunk(self) -> usize {
        (self.0 >> CHUNK_BITS) as usize
    }

    fn index(self) -> usize {
        self.0 as usize & (CHUNK_LEN - 1)
    }
}

/// A chunk of slots. Positions are stored apart from wakers, because the heap writes a position for each entry that it
/// moves: a million of them take 4 MB instead of 24.
struct Chunk {
    positions: Vec<u32>,
    wakers: Vec<Option<Waker>>,
    first_free: u32,
    n_used: u32,
}

impl Chunk {
    const EMPTY: Chunk =
        Chunk { positions: Vec::new(), wakers: Vec::new(), first_free: NO_SLOT, n_used: 0 };

    fn is_full(&self) -> bool {
        self.n_used as usize == CHUNK_LEN
    }
}

/// The slots of the timers of one loop.
pub(crate) struct TimerSlots {
    chunks: Vec<Chunk>,
    /// The first chunk with a free slot; one that does not exist yet if all are full.
    first_open: usize,
    /// A bit for each chunk that has a free slot.
    open: Vec<u64>,
    /// An empty chunk that has kept its memory. There is at most one besides the first, which always does, because most
    /// programs never need another.
    spare: usize,
    max_chunks: usize,
}

/// Stands for no chunk.
const NO_CHUNK: usize = usize::MAX;

impl TimerSlots {
    /// Positions are below this.
    pub(crate) const POSITIONS: u32 = FREE;

    /// The most chunks there can be.
    const MAX_CHUNKS: usize = 1 << (TimerSlot::BITS - CHUNK_BITS);

    pub(crate) const fn new() -> TimerSlots {
        TimerSlots {
            chunks: Vec::new(),
            first_open: 0,
            open: Vec::new(),
            spare: NO_CHUNK,
            max_chunks: TimerSlots::MAX_CHUNKS,
        }
    }

    /// Takes a slot from the first chunk that has one, so that the later ones become empty.
    ///
    /// # Errors
    /// Returns the waker if all slots are taken.
    #[inline]
    pub(crate) fn insert(&mut self, position: u32, waker: Waker) -> Result<TimerSlot, Waker> {
        let number = self.first_open;
        let Some(chunk) = self.chunks.get_mut(number) else {
            return self.insert_in_new(position, waker);
        };
        let index = chunk.first_free;
        let Some(place) = chunk.positions.get_mut(index as usize) else {
            return Ok(self.insert_fresh(position, waker));
        };
        chunk.first_free = *place & !FREE;
        *place = position;
        let none = chunk.wakers[index as usize].replace(waker);
        debug_assert!(none.is_none());
        // There is nothing to drop, which the compiler cannot know.
        mem::forget(none);
        chunk.n_used += 1;
        if chunk.is_full() || self.spare == number {
            self.note_inserted(number);
        }
        Ok(TimerSlot((number as u32) << CHUNK_BITS | index))
    }

    /// Takes a slot of the first open chunk that was not used since the chunk was allocated.
    fn insert_fresh(&mut self, position: u32, waker: Waker) -> TimerSlot {
        let number = self.first_open;
        let chunk = &mut self.chunks[number];
        if chunk.positions.capacity() == 0 && number > 0 {
            // The first chunk grows like any `Vec`.
            chunk.positions.reserve_exact(CHUNK_LEN);
            chunk.wakers.reserve_exact(CHUNK_LEN);
        }
        let index = chunk.positions.len() as u32;
        chunk.positions.push(position);
        chunk.wakers.push(Some(waker));
        chunk.n_used += 1;
        self.note_inserted(number);
        TimerSlot((number as u32) << CHUNK_BITS | index)
    }

    #[cold]
    fn insert_in_new(&mut self, position: u32, waker: Waker) -> Result<TimerSlot, Waker> {
        let number = self.chunks.len();
        if number == self.max_chunks {
            return Err(waker);
        }
        self.chunks.push(Chunk::EMPTY);
        if number / 64 == self.open.len() {
            self.open.push(0);
        }
        self.open[number / 64] |= 1 << (number % 64);
        Ok(self.insert_fresh(position, waker))
    }

    /// Records that a chunk may be full now, and is not empty.
    fn note_inserted(&mut self, number: usize) {
        if self.chunks[number].is_full() {
            self.close(number);
        }
        if self.spare == number {
            self.spare = NO_CHUNK;
        }
    }

    /// Records that a chunk is full, and finds the next one that is not, in up to 64 words.
    #[cold]
    fn close(&mut self, number: usize) {
        self.open[number / 64] &= !(1 << (number % 64));
        let next = self.open.iter().enumerate().find(|(_, word)| **word != 0);
        self.first_open = match next {
            Some((index, word)) => index * 64 + word.trailing_zeros() as usize,
            None => self.chunks.len(),
        };
    }

    /// Frees a slot; returns its waker, to be dropped or woken after the borrow.
    #[inline]
    pub(crate) fn remove(&mut self, slot: TimerSlot) -> Option<Waker> {
        let number = slot.chunk();
        let chunk = &mut self.chunks[number];
        let waker = chunk.wakers[slot.index()].take();
        chunk.positions[slot.index()] = FREE | chunk.first_free;
        chunk.first_free = slot.index() as u32;
        let was_full = chunk.is_full();
        chunk.n_used -= 1;
        if was_full {
            self.open[number / 64] |= 1 << (number % 64);
            self.first_open = self.first_open.min(number);
        } else if chunk.n_used == 0 && number > 0 {
            self.keep_one_spare(number);
        }
        waker
    }

    /// Frees the memory of an empty chunk, unless it is the only empty one.
    #[inline]
    fn keep_one_spare(&mut self, number: usize) {
        if self.spare == NO_CHUNK {
            self.spare = number;
        } else {
            self.free_one_of(number, self.spare);
        }
    }

    #[cold]
    fn free_one_of(&mut self, one: usize, other: usize) {
        self.chunks[one.max(other)] = Chunk::EMPTY;
        self.spare = one.min(other);
    }

    /// Returns the number of slots that a sleep owns.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.n_used as usize).sum()
    }

    /// Returns the position that was last set, or `None` if no sleep owns the slot.
    #[inline]
    pub(crate) fn position(&self, slot: TimerSlot) -> Option<u32> {
        let position = *self.chunks.get(slot.chunk())?.positions.get(slot.index())?;
        (position & FREE == 0).then_some(position)
    }

    #[inline]
    pub(crate) fn set_position(&mut self, slot: TimerSlot, position: u32) {
        self.chunks[slot.chunk()].positions[slot.index()] = position;
    }

    /// Lists the wakers of the timers at `position`. O(n).
    pub(crate) fn wakers_at(&self, position: u32) -> impl Iterator<Item = &Waker> {
        let slots = self.chunks.iter().flat_map(|chunk| chunk.positions.iter().zip(&chunk.wakers));
        slots.filter(move |(at, _)| **at == position).filter_map(|(_, waker)| waker.as_ref())
    }

    pub(crate) fn waker(&self, slot: TimerSlot) -> Option<&Waker> {
        self.chunks[slot.chunk()].wakers[slot.index()].as_ref()
    }

    #[inline]
    pub(crate) fn take_waker(&mut self, slot: TimerSlot) -> Option<Waker> {
        self.chunks[slot.chunk()].wakers[slot.index()].take()
    }

    #[inline]
    pub(crate) fn set_waker(&mut self, slot: TimerSlot, waker: Waker) -> Option<Waker> {
        self.chunks[slot.chunk()].wakers[slot.index()].replace(waker)
    }

    /// Takes the first waker that `is_wanted`, from the slot `from` on; returns it with the slot at which
    /// to continue.
    pub(crate) fn take_next(
        &mut self,
        from: TimerSlot,
        is_wanted: impl Fn(&Waker) -> bool,
    ) -> Option<(Waker, TimerSlot)> {
        for number in from.chunk()..self.chunks.len() {
            let first = if number == from.chunk() { from.index() } else { 0 };
            let wakers = self.chunks[number].wakers.iter_mut().enumerate().skip(first);
            for (index, place) in wakers {
                if place.as_ref().is_some_and(&is_wanted) {
                    let next = (number << CHUNK_BITS) + index + 1;
                    return Some((place.take()?, TimerSlot(next as u32)));
                }
            }
        }
        None
    }

    /// Counts the slots for which there is memory.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.wakers.capacity()).sum()
    }

    #[cfg(test)]
    pub(crate) fn set_max_chunks(&mut self, max_chunks: usize) {
        self.max_chunks = max_chunks;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn insert(slots: &mut TimerSlots) -> TimerSlot {
        slots.insert(1, Waker::noop().clone()).unwrap()
    }

    #[test]
    fn a_slot_is_owned_until_it_is_removed_and_then_used_again() {
        let mut slots = TimerSlots::new();
        let (first, second) = (insert(&mut slots), insert(&mut slots));
        assert_ne!(first, second);
        assert!(slots.remove(first).is_some());
        assert_eq!((slots.position(first), slots.position(second)), (None, Some(1)));
        assert_eq!(insert(&mut slots), first);
        assert_eq!(slots.position(TimerSlot(12_345)), None);
    }

    #[test]
    fn a_full_table_returns_the_waker() {
        let mut slots = TimerSlots::new();
        slots.set_max_chunks(1);
        let first = insert(&mut slots);
        (1..CHUNK_LEN).for_each(|_| _ = insert(&mut slots));
        assert!(slots.insert(1, Waker::noop().clone()).is_err());
        slots.remove(first);
        assert_eq!(insert(&mut slots), first);
    }

    #[test]
    fn memory_follows_the_number_of_timers_down() {
        let mut slots = TimerSlots::new();
        let mut taken: Vec<_> = (0..100_000).map(|_| insert(&mut slots)).collect();
        assert!(slots.capacity() >= 100_000);
        while let Some(slot) = taken.pop() {
            slots.remove(slot);
            assert!(slots.capacity() <= slots.len() + 2 * CHUNK_LEN, "{}", slots.len());
        }
        // In the order of arming, as timers often end: the same.
        let mut taken: Vec<_> = (0..100_000).map(|_| insert(&mut slots)).collect();
        taken.drain(..99_000).for_each(|slot| drop(slots.remove(slot)));
        assert!(slots.capacity() <= 3 * CHUNK_LEN);
        // New timers fill the early chunks, so that the late one becomes free.
        let early: Vec<_> = (0..1_000).map(|_| insert(&mut slots)).collect();
        taken.into_iter().for_each(|slot| drop(slots.remove(slot)));
        assert!(slots.capacity() <= 2 * CHUNK_LEN);
        assert!(early.iter().all(|slot| slot.chunk() == 0));
    }

    #[test]
    fn a_number_that_swings_around_the_border_of_a_chunk_keeps_its_memory() {
        let mut slots = TimerSlots::new();
        (0..CHUNK_LEN).for_each(|_| _ = insert(&mut slots));
        let capacity = slots.capacity();
        for _ in 0..10 {
            let slot = insert(&mut slots);
            slots.remove(slot);
            assert_eq!(slots.capacity(), capacity + CHUNK_LEN);
        }
    }

    #[test]
    fn wakers_are_found_one_by_one() {
        let mut slots = TimerSlots::new();
        let taken: Vec<_> = (0..10_000).map(|_| insert(&mut slots)).collect();
        for slot in &taken[..9_990] {
            slots.take_waker(*slot);
        }
        let (mut from, mut n_found) = (TimerSlot(0), 0);
        while let Some((_, next)) = slots.take_next(from, |_| true) {
            from = next;
            n_found += 1;
        }
        assert_eq!(n_found, 10);
    }
}
