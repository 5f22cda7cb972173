//! The order in which a combinator polls its branches, so that no branch starves the others.
//!
//! The budget belongs to the task, so a branch that is always ready could spend all of it in every poll, and the
//! branches after it would never complete an operation. Therefore:
//!
//! - A branch is not polled when the budget is spent. The task is woken, and the next poll starts with the first branch
//!   that was not polled.
//! - A combinator that is recreated for each operation, as a race in a loop is, finds the budget spent before its first
//!   branch, and keeps no state from one to the next. It starts its next poll with a random branch, and so do the
//!   combinators inside it that have no refused branch.
//! - A result takes one operation, so a loop around branches that take none yields too.

use std::task::{Context, Poll};

use crate::event_loop::budget::Start;
use crate::running::{MakingUp, has_budget, is_plain, start, take_one};
use crate::steps::step;

/// The next branch to poll of a combinator. For the macros and this crate only.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// The branch to start with, if the last poll found the budget spent.
    next: Option<usize>,
}

impl Turns {
    /// Creates the state before the first poll.
    pub const fn new() -> Turns {
        Turns { next: None }
    }

    /// Polls up to `n` branches with `poll`, from `first` on in cyclic order, until one is ready.
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

    /// Reports whether the branches are polled in written order, because none was refused.
    #[inline]
    pub(crate) fn are_plain(&self) -> bool {
        self.next.is_none() && is_plain()
    }

    /// Starts a poll of `n` branches, or wakes the task if the budget is spent.
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

    /// Reports whether a further branch may be polled. If not, the task is woken, and the next poll starts with that
    /// branch.
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

/// A poll of a combinator in progress.
struct Begun {
    /// The branch that is polled first.
    first: usize,
    /// While it exists, combinators inside this one start with a random branch.
    _making_up: Option<MakingUp>,
}
