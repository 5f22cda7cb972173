//! When a list that was long gives its memory back.

/// Lists up to this length are not worth it.
const TRIM_MIN: usize = 1_024;

/// Gives back most of a list's unused room, if it is much more than what was lately used.
pub(crate) fn trim<T>(list: &mut Vec<T>, n_used: usize) {
    if list.capacity() > TRIM_MIN.max(4 * n_used) {
        list.shrink_to(2 * n_used);
    }
}
