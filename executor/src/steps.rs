//! A count of what tables and combinators do, by which tests see that cost follows what happens and not
//! who waits.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static N_STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts one step: an entry of a table that was looked at, a future that was polled. Outside of tests it
/// does nothing.
#[inline]
pub(crate) fn step() {
    #[cfg(test)]
    N_STEPS.set(N_STEPS.get() + 1);
}

/// Returns the number of steps that `f` takes on this thread.
#[cfg(test)]
pub(crate) fn count_steps(f: impl FnOnce()) -> u64 {
    let before = N_STEPS.get();
    f();
    N_STEPS.get() - before
}
