//! In which order a combinator polls its branches, so that no branch keeps the others from progress.
//!
//! The budget belongs to the task, so a branch that is always ready could spend all of it in every poll,
//! and the branches after it would never be allowed to complete anything. Therefore:
//!
//! - A branch is not polled when the budget is spent. The task is woken, and the next poll begins with the
//!   first branch that had no chance.
//! - A combinator that is made anew for each operation, as a race in a loop is, meets the spent budget before
//!   its first branch, and keeps nothing from one to the next. It begins its next poll with any branch, drawn
//!   at random, and so do the combinators within it that have no refused branch of their own.
//! - A result takes one operation, so a loop around branches that take none yields as well.

use std::task::{Context, Poll};

use crate::budget::{Start, has_budget, start, take_one, while_making_up};
use crate::steps::step;

/// Whose turn it is among the branches of one combinator. For the macros and this crate alone.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// The branch to begin with, if the last poll met a spent budget.
    next: Option<usize>,
}

impl Turns {
    /// Begins before the first poll.
    pub const fn new() -> Turns {
        Turns { next: None }
    }

    /// Polls up to `n` branches by `poll`, from `first` on and around, until one is ready.
    #[inline]
    pub fn poll<T>(
        &mut self,
        n: usize,
        first: usize,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(usize, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mixed = match start() {
            Start::Spent(number) => {
                self.next.get_or_insert(number as usize % n);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Start::Plain => None,
            Start::Mixed(number) => Some(number as usize % n),
        };
        match self.next.take() {
            None => self.poll_all(n, mixed.unwrap_or(first), cx, &mut poll),
            Some(next) => while_making_up(|| self.poll_all(n, next, cx, &mut poll)),
        }
    }

    #[inline]
    fn poll_all<T>(
        &mut self,
        n: usize,
        first: usize,
        cx: &mut Context<'_>,
        poll: &mut impl FnMut(usize, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        for turn in 0..n {
            let branch = if first + turn < n { first + turn } else { first + turn - n };
            if turn > 0 && !has_budget() {
                self.next = Some(branch);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            step();
            if let ready @ Poll::Ready(_) = poll(branch, cx) {
                take_one();
                return ready;
            }
        }
        Poll::Pending
    }
}
