//! The cooperative budget: how much a task may do in one poll before it yields.

use std::cell::Cell;

/// The operations that a task may complete in one poll.
///
/// A leaf future (a read, a receive, a join) that is always ready would otherwise keep its task
/// running indefinitely. 128 reads of 16 KiB take about a millisecond.
pub(crate) const OPERATIONS_PER_POLL: u32 = 128;

/// The state of the budget at the start of a combinator's poll.
pub(crate) enum Start {
    /// Spent: no branch may be polled. With a random number.
    Spent(u32),
    Plain,
    /// An enclosing combinator did not reach this one in its last poll. With a random number.
    Mixed(u32),
}

/// What the running task may still do in this poll.
pub(crate) struct Budget {
    /// The remaining operations.
    left: Cell<u32>,
    /// The number of the poll in which combinators start with a random branch: see `combine/fairness.rs`.
    mixed_in: Cell<u64>,
    /// The state of the random generator for that.
    random: Cell<u32>,
}

impl Budget {
    pub(crate) fn new() -> Budget {
        Budget {
            left: Cell::new(OPERATIONS_PER_POLL),
            mixed_in: Cell::new(u64::MAX),
            random: Cell::new(RANDOM_SEED),
        }
    }

    /// Resets the budget for another poll.
    #[inline]
    pub(crate) fn refill(&self) {
        self.left.set(OPERATIONS_PER_POLL);
    }

    /// Takes one operation. Returns `false` if none is left.
    #[inline]
    pub(crate) fn take_one(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }

    /// Reports whether an operation is left.
    #[inline]
    pub(crate) fn is_left(&self) -> bool {
        self.left.get() > 0
    }

    /// Reports whether there is budget, and no combinator starts with a random branch in the poll with this number.
    #[inline]
    pub(crate) fn is_plain(&self, poll: u64) -> bool {
        self.is_left() && self.mixed_in.get() != poll
    }

    /// Returns the state for a combinator in the poll with this number.
    #[inline]
    pub(crate) fn start(&self, poll: u64) -> Start {
        if self.is_plain(poll) {
            Start::Plain
        } else if self.is_left() {
            Start::Mixed(self.draw())
        } else {
            Start::Spent(self.draw())
        }
    }

    /// Makes combinators start with a random branch in the poll with this number. Returns the former number.
    pub(crate) fn mix_in(&self, poll: u64) -> u64 {
        self.mixed_in.replace(poll)
    }

    /// Returns a random number for combinators.
    #[cold]
    pub(crate) fn draw(&self) -> u32 {
        next_random(&self.random)
    }
}

/// The state that each generator of [`next_random`] starts with.
pub(crate) const RANDOM_SEED: u32 = 0x9e37_79b9;

/// Returns a random number: Marsaglia's xorshift, the same sequence in every run.
pub(crate) fn next_random(state: &Cell<u32>) -> u32 {
    let mut random = state.get();
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    state.set(random);
    random
}
