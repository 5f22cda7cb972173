//! The free slots of a table, and when a table that has grown gives memory back.
//!
//! A table is looked at when the loop goes to sleep. If three quarters of it were free all the
//! time since the last sleep, its upper half is retired: slots there are not used again, and when
//! the last of them is free the table is cut. A table that fills and empties in waves keeps its
//! size.

use std::mem;

/// Tables up to this length are not worth cutting.
const CUT_MIN: usize = 1_024;

/// The free slots of a table, the last freed first.
#[derive(Debug)]
pub(crate) struct FreeList {
    free: Vec<u32>,
    /// Free slots from `limit` on, which are not in the list.
    n_retired: usize,
    /// Slots from here on are retired.
    limit: u32,
    /// The shortest that the list was since the loop last slept.
    shortest: usize,
}

impl FreeList {
    pub(crate) fn new() -> FreeList {
        FreeList { free: Vec::new(), n_retired: 0, limit: u32::MAX, shortest: 0 }
    }

    /// Returns the number of free slots.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.free.len() + self.n_retired
    }

    /// Takes the slot that was freed last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let index = self.free.pop();
        self.shortest = self.shortest.min(self.free.len());
        index
    }

    #[inline]
    pub(crate) fn push(&mut self, index: u32) {
        if index < self.limit {
            self.free.push(index);
        } else {
            self.n_retired += 1;
        }
    }

    /// Takes the retired slots of a table back into use, because there are no others.
    pub(crate) fn unretire<T>(&mut self, table: &[T], is_free: impl Fn(&T) -> bool) {
        if self.n_retired > 0 {
            let retired = (self.limit..).zip(&table[self.limit as usize..]);
            self.free.extend(retired.filter(|(_, slot)| is_free(slot)).map(|(index, _)| index));
        }
        self.limit = u32::MAX;
        self.n_retired = 0;
    }

    /// Returns the length that a table of `len` slots should be cut to, if it is time.
    #[inline]
    pub(crate) fn rest(&mut self, len: usize) -> Option<usize> {
        let shortest = mem::replace(&mut self.shortest, self.free.len());
        if len <= CUT_MIN || self.limit == u32::MAX && shortest <= len / 4 * 3 {
            return None;
        }
        self.retire(len)
    }

    #[cold]
    fn retire(&mut self, len: usize) -> Option<usize> {
        if self.limit == u32::MAX {
            let n_free = self.free.len();
            self.limit = (len / 2) as u32;
            self.free.retain(|index| *index < self.limit);
            self.n_retired = n_free - self.free.len();
        }
        let limit = self.limit as usize;
        if self.n_retired < len - limit {
            return None;
        }
        self.limit = u32::MAX;
        self.n_retired = 0;
        self.free.shrink_to_fit();
        // So that the next half is looked at in the next sleep.
        self.shortest = self.free.len();
        Some(limit)
    }
}

/// Gives back most of a list's unused room, if it is much more than what was lately used.
pub(crate) fn trim<T>(list: &mut Vec<T>, n_used: usize) {
    if list.capacity() > CUT_MIN.max(4 * n_used) {
        list.shrink_to(2 * n_used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_stays_empty_is_halved_and_halved_again() {
        let mut list = FreeList::new();
        (0..16_000).for_each(|index| list.push(index));
        // Full within the last period: a wave, which keeps its size.
        assert_eq!(list.rest(16_000), None);
        assert_eq!(list.rest(16_000), Some(8_000));
        assert_eq!(list.rest(8_000), Some(4_000));
        assert_eq!(list.len(), 4_000);
        assert_eq!(list.rest(1_000), None);
    }

    #[test]
    fn a_tenant_in_the_upper_half_delays_the_cut_but_gets_no_neighbours() {
        let mut list = FreeList::new();
        (0..9_999).for_each(|index| list.push(index));
        assert_eq!(list.rest(10_000), None);
        assert_eq!(list.rest(10_000), None);
        assert_eq!(list.pop(), Some(4_999));
        assert_eq!(list.rest(10_000), None);
        list.push(9_999);
        assert_eq!(list.rest(10_000), Some(5_000));
    }

    #[test]
    fn retired_slots_come_back_when_there_are_no_others() {
        let mut list = FreeList::new();
        (0..1_999).for_each(|index| list.push(index));
        assert_eq!((list.rest(2_000), list.rest(2_000)), (None, None));
        while list.pop().is_some() {}
        assert_eq!(list.len(), 999);
        let table: Vec<u32> = (0..2_000).collect();
        list.unretire(&table, |slot| *slot >= 1_000 && *slot != 1_999);
        assert_eq!((list.len(), list.pop()), (999, Some(1_998)));
    }
}
