//! When a table that has grown should give memory back.

/// Entries up to this number are not worth giving back.
const SHRINK_MIN: usize = 1_024;

/// Says when to look whether a table can be cut at its end, and by how much it must be.
#[derive(Debug, Default)]
pub(crate) struct Shrink {
    /// Entries that were freed since the last look.
    n_freed: usize,
}

impl Shrink {
    /// Notes that an entry was freed in a table of `len`, of which `n_alive` live. True if it is
    /// time to look: when it is mostly empty, and as many have gone since the last look as are
    /// left, so that a table that empties is looked at ever more closely.
    #[inline]
    pub(crate) fn is_due(&mut self, len: usize, n_alive: usize) -> bool {
        self.n_freed += 1;
        if self.n_freed < n_alive.max(SHRINK_MIN) {
            return false;
        }
        self.n_freed = 0;
        len > SHRINK_MIN && n_alive < len / 4
    }

    /// Returns the length to cut a table to, given which of its entries are free. None if too few
    /// are at its end: then the work would be done again and again.
    pub(crate) fn cut<T>(table: &[T], is_free: impl Fn(&T) -> bool) -> Option<usize> {
        let n_cut = table.iter().rev().take_while(|entry| is_free(entry)).count();
        (n_cut >= table.len() / 8).then_some(table.len() - n_cut)
    }
}

/// Gives back most of a list's unused room, if it is much more than what was lately used.
pub(crate) fn trim<T>(list: &mut Vec<T>, n_used: usize) {
    if list.capacity() > SHRINK_MIN.max(4 * n_used) {
        list.shrink_to(2 * n_used);
    }
}
