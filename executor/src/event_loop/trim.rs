//! Releasing the memory of lists that were long.

/// Lists up to this length keep their memory.
const TRIM_MIN: usize = 1_024;

/// Releases most of a list's unused capacity, if it is much larger than the recent length.
pub(crate) fn trim<T>(list: &mut Vec<T>, n_used: usize) {
    if list.capacity() > TRIM_MIN.max(4 * n_used) {
        list.shrink_to(2 * n_used);
    }
}
