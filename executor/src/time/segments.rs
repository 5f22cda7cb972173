//! A list in segments, whose growth does not move its elements.
//!
//! A `Vec` with a million elements moves them all, or remaps their pages, when it outgrows its allocation, which takes
//! milliseconds. Here growth allocates one more segment and
//! shrinking frees one, so the longest single step does not depend on the length.

use std::ops::{Index, IndexMut};

/// The elements of a segment, as a power of two.
const SEGMENT_BITS: u32 = 10;
const SEGMENT_LEN: usize = 1 << SEGMENT_BITS;

/// A list that is pushed and popped at its end.
///
/// Invariant: all segments before the last element's are full, all after it are empty, and there
/// is at most one of the latter, kept so that a length that oscillates allocates nothing.
pub(crate) struct Segments<T> {
    segments: Vec<Vec<T>>,
    len: usize,
}

impl<T> Segments<T> {
    pub(crate) const fn new() -> Segments<T> {
        Segments { segments: Vec::new(), len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        let index = self.len >> SEGMENT_BITS;
        if index == self.segments.len() {
            self.add_segment();
        }
        self.segments[index].push(value);
        self.len += 1;
    }

    #[cold]
    fn add_segment(&mut self) {
        // The first one grows like any `Vec`: most programs never need a second.
        let capacity = if self.segments.is_empty() { 0 } else { SEGMENT_LEN };
        self.segments.push(Vec::with_capacity(capacity));
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let index = self.len.checked_sub(1)? >> SEGMENT_BITS;
        let value = self.segments[index].pop();
        self.len -= 1;
        if self.len & (SEGMENT_LEN - 1) == 0 {
            // The segment `index` is empty now and is the one to keep.
            self.segments.truncate(index + 1);
        }
        value
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.segments.get(index >> SEGMENT_BITS)?.get(index & (SEGMENT_LEN - 1))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten()
    }
}

impl<T> Index<usize> for Segments<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.segments[index >> SEGMENT_BITS][index & (SEGMENT_LEN - 1)]
    }
}

impl<T> IndexMut<usize> for Segments<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.segments[index >> SEGMENT_BITS][index & (SEGMENT_LEN - 1)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_segments_is_a_list() {
        let mut list = Segments::new();
        for i in 0..10_000 {
            assert_eq!(list.len(), i);
            list.push(i);
        }
        list[5_000] += 1;
        assert_eq!((list[0], list[5_000], list.get(10_000)), (0, 5_001, None));
        assert!(list.iter().copied().eq((0..10_000).map(|i| i + usize::from(i == 5_000))));
        for i in (0..10_000).rev() {
            assert_eq!(list.pop(), Some(i + usize::from(i == 5_000)));
        }
        assert_eq!(list.pop(), None);
    }

    #[test]
    fn memory_follows_the_length_down_a_segment_at_a_time() {
        let mut list = Segments::new();
        (0..10 * SEGMENT_LEN).for_each(|i| list.push(i));
        for _ in 0..10 * SEGMENT_LEN {
            list.pop();
            let n_needed = list.len().div_ceil(SEGMENT_LEN);
            assert!(list.segments.len() <= n_needed + 1);
        }
    }

    #[test]
    fn growth_moves_no_element_beyond_the_first_segment() {
        let mut list = Segments::new();
        (0..SEGMENT_LEN).for_each(|i| list.push(i));
        let first: *const usize = &raw const list[0];
        (0..100 * SEGMENT_LEN).for_each(|i| list.push(i));
        assert_eq!(first, &raw const list[0]);
    }

    #[test]
    fn a_length_that_swings_around_a_border_keeps_its_segment() {
        let mut list = Segments::new();
        (0..=SEGMENT_LEN).for_each(|i| list.push(i));
        let last: *const usize = &raw const list[SEGMENT_LEN];
        for _ in 0..100 {
            list.pop();
            list.push(1);
            assert_eq!(last, &raw const list[SEGMENT_LEN]);
        }
    }
}
