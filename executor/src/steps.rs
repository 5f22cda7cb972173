//! Counts the steps of tables and combinators, so that tests can check that cost does not depend on the number of
//! waiters.

#[cfg(test)]
use std::cell::Cell;

#[cfg(test)]
thread_local! {
    static N_STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Counts one step: a visited entry of a table, or a polled future. Does nothing outside of tests.
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
