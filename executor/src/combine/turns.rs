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

use crate::event_loop::budget::Start;
use crate::running::{MakingUp, has_budget, is_plain, start, take_one};
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
        let Some(begun) = self.begin(n, first, cx) else { return Poll::Pending };
        let mut branch = begun.first;
        for turn in 0..n {
            if turn > 0 && !self.may_go_on(branch, cx) {
                return Poll::Pending;
            }
            if let ready @ Poll::Ready(_) = poll(branch, cx) {
                take_one();
                return ready;
            }
            branch = if branch + 1 == n { 0 } else { branch + 1 };
        }
        Poll::Pending
    }

    /// Reports whether the branches are polled in their own order, there being nothing to make up for.
    #[inline]
    pub(crate) fn are_plain(&self) -> bool {
        self.next.is_none() && is_plain()
    }

    /// Begins a poll of `n` branches, or has the task woken if the budget is spent.
    #[inline]
    fn begin(&mut self, n: usize, first: usize, cx: &Context<'_>) -> Option<Begun> {
        match start() {
            Start::Plain if self.next.is_none() => Some(Begun { first, _making_up: None }),
            start => self.begin_elsewhere(n, first, start, cx),
        }
    }

    #[cold]
    fn begin_elsewhere(
        &mut self,
        n: usize,
        first: usize,
        start: Start,
        cx: &Context<'_>,
    ) -> Option<Begun> {
        match (start, self.next.take()) {
            (Start::Spent(number), next) => {
                self.next = next.or(Some(number as usize % n));
                cx.waker().wake_by_ref();
                None
            }
            (_, Some(next)) => Some(Begun { first: next, _making_up: Some(MakingUp::begin()) }),
            (Start::Mixed(number), None) => {
                Some(Begun { first: number as usize % n, _making_up: None })
            }
            (Start::Plain, None) => Some(Begun { first, _making_up: None }),
        }
    }

    /// Reports whether a further branch may be polled. If not, the task is woken, and the next poll begins
    /// with that branch.
    #[inline]
    pub(crate) fn may_go_on(&mut self, branch: usize, cx: &Context<'_>) -> bool {
        step();
        let may_go_on = has_budget();
        if !may_go_on {
            self.next = Some(branch);
            cx.waker().wake_by_ref();
        }
        may_go_on
    }
}

/// A poll of a combinator that has begun.
struct Begun {
    /// The branch that is polled first.
    first: usize,
    /// Meanwhile combinators within this one begin with any branch.
    _making_up: Option<MakingUp>,
}
