//! The bit sets of select(2): an `fd_set` whose words can be read.

use std::ptr;

use crate::sys::os::FdSetWord;
use crate::{Interest, Readiness};

/// The number of descriptors that a set has room for: FD_SETSIZE, whose type differs.
pub(super) const CAPACITY: usize = size_of::<libc::fd_set>() * 8;

const WORD_BITS: usize = FdSetWord::BITS as usize;

/// The three sets of one call.
#[derive(Clone, Debug, Default)]
pub(super) struct FdSets {
    read: FdSet,
    write: FdSet,
    except: FdSet,
}

impl FdSets {
    #[inline]
    pub(super) fn insert(&mut self, fd: usize, interest: Interest) {
        if interest.is_readable() {
            self.read.insert(fd);
        }
        if interest.is_writable() {
            self.write.insert(fd);
        }
        if interest.is_priority() {
            self.except.insert(fd);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, fd: usize) {
        self.read.remove(fd);
        self.write.remove(fd);
        self.except.remove(fd);
    }

    /// Takes `fd` out of the set of those that are readable. Returns whether it was there.
    #[inline]
    pub(super) fn take_readable(&mut self, fd: usize) -> bool {
        let was_there = self.read.contains(fd);
        self.read.remove(fd);
        was_there
    }

    /// Copies what `other` holds below `end`, and returns the sets as select(2) takes them: null for one
    /// that is empty, so that the kernel need not scan it. What is beyond `end` is undefined.
    #[inline]
    pub(super) fn load(&mut self, other: &FdSets, end: usize) -> [*mut libc::fd_set; 3] {
        [
            self.read.load(&other.read, end),
            self.write.load(&other.write, end),
            self.except.load(&other.except, end),
        ]
    }

    /// Returns which of the three sets contain `fd`, as an interest.
    pub(super) fn interest(&self, fd: usize) -> Interest {
        let sets = [
            (&self.read, Interest::READABLE),
            (&self.write, Interest::WRITABLE),
            (&self.except, Interest::PRIORITY),
        ];
        let containing = sets.iter().filter(|(set, _)| set.contains(fd));
        containing.fold(Interest::NONE, |all, (_, interest)| all | *interest)
    }

    /// Returns what the sets report of `fd`, and how many of them do.
    #[inline]
    pub(super) fn readiness(&self, fd: usize) -> (Readiness, usize) {
        let mut readiness = Readiness::NONE;
        let mut n_sets = 0;
        // Not a loop: the compiler would keep it.
        if self.read.contains(fd) {
            readiness |= Readiness::READABLE;
            n_sets += 1;
        }
        if self.write.contains(fd) {
            readiness |= Readiness::WRITABLE;
            n_sets += 1;
        }
        if self.except.contains(fd) {
            readiness |= Readiness::PRIORITY;
            n_sets += 1;
        }
        (readiness, n_sets)
    }

    /// Finds the first descriptor in any set from `from` and before `end`.
    #[inline]
    pub(super) fn next(&self, from: usize, end: usize) -> Option<usize> {
        if from >= end {
            return None;
        }
        let mut index = from / WORD_BITS;
        let mut word = self.word(index) & (FdSetWord::MAX << (from % WORD_BITS));
        while word == 0 {
            index += 1;
            if index * WORD_BITS >= end {
                return None;
            }
            word = self.word(index);
        }
        let fd = index * WORD_BITS + word.trailing_zeros() as usize;
        (fd < end).then_some(fd)
    }

    /// Returns the number after the largest descriptor, which is below `bound`.
    #[inline]
    pub(super) fn end(&self, bound: usize) -> usize {
        let words = (0..bound.div_ceil(WORD_BITS)).rev();
        let last = words.map(|index| (index, self.word(index))).find(|(_, word)| *word != 0);
        last.map_or(0, |(index, word)| (index + 1) * WORD_BITS - word.leading_zeros() as usize)
    }

    #[inline]
    fn word(&self, index: usize) -> FdSetWord {
        self.read.0[index] | self.write.0[index] | self.except.0[index]
    }
}

/// One set. It has the layout of an `fd_set`.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct FdSet([FdSetWord; CAPACITY / WORD_BITS]);

const _: () = assert!(
    size_of::<FdSet>() == size_of::<libc::fd_set>()
        && align_of::<FdSet>() >= align_of::<libc::fd_set>()
);

impl FdSet {
    #[inline]
    fn insert(&mut self, fd: usize) {
        self.0[fd / WORD_BITS] |= 1 << (fd % WORD_BITS);
    }

    #[inline]
    fn remove(&mut self, fd: usize) {
        self.0[fd / WORD_BITS] &= !(1 << (fd % WORD_BITS));
    }

    #[inline]
    fn contains(&self, fd: usize) -> bool {
        self.0[fd / WORD_BITS] >> (fd % WORD_BITS) & 1 == 1
    }

    fn as_mut_ptr(&mut self) -> *mut libc::fd_set {
        ptr::from_mut(self).cast()
    }

    #[inline]
    fn load(&mut self, other: &FdSet, end: usize) -> *mut libc::fd_set {
        let n_words = end.div_ceil(WORD_BITS);
        let mut union = 0;
        for (to, from) in self.0.iter_mut().zip(&other.0).take(n_words) {
            *to = *from;
            union |= *from;
        }
        if union == 0 { ptr::null_mut() } else { self.as_mut_ptr() }
    }
}

impl Default for FdSet {
    fn default() -> FdSet {
        FdSet([0; CAPACITY / WORD_BITS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_layout_of_the_system() {
        for fd in [0, 1, 31, 32, 63, 64, 65, 1_000, CAPACITY - 1] {
            let mut set = FdSet::default();
            set.insert(fd);
            // SAFETY: `set` has the size and alignment of an `fd_set`, and `fd` is within it.
            assert!(unsafe { libc::FD_ISSET(fd as libc::c_int, set.as_mut_ptr()) });
            set.remove(fd);
            assert_eq!(set.0, FdSet::default().0);
        }
    }

    #[test]
    fn next_finds_every_member_in_order() {
        let members = [0, 1, 63, 64, 127, 500, CAPACITY - 1];
        let mut sets = FdSets::default();
        for fd in members {
            sets.insert(fd, Interest::WRITABLE);
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(fd) = sets.next(from, CAPACITY) {
            found.push(fd);
            from = fd + 1;
        }
        assert_eq!(found, members);
        assert_eq!(sets.next(2, 63), None);
        assert_eq!(sets.end(CAPACITY), CAPACITY);
        sets.remove(CAPACITY - 1);
        assert_eq!(sets.end(CAPACITY), 501);
        assert_eq!(FdSets::default().end(CAPACITY), 0);
    }

    #[test]
    fn loading_copies_members_and_leaves_out_empty_sets() {
        let mut requested = FdSets::default();
        requested.insert(70, Interest::READABLE | Interest::PRIORITY);
        let mut found = FdSets::default();
        // What an earlier wait has left.
        found.insert(3, Interest::WRITABLE);
        let [read, write, except] = found.load(&requested, requested.end(CAPACITY));
        assert!(!read.is_null() && write.is_null() && !except.is_null());
        assert_eq!(found.next(0, 71), Some(70));
        assert_eq!(found.readiness(70), (Readiness::READABLE | Readiness::PRIORITY, 2));
        assert!(found.take_readable(70) && !found.take_readable(70));
    }
}
