//! The cooperative budget: how much one task may do before the others have their turn.

use std::cell::Cell;
use std::task::{Context, Poll};

use crate::raw::waker::current;

/// The operations that a task may complete in one poll.
///
/// A leaf future (a read, a receive, a join) that is always ready would otherwise keep its task
/// running indefinitely. 128 reads of 16 KiB take about a millisecond.
pub(crate) const OPERATIONS_PER_POLL: u32 = 128;

/// Takes one operation from the running task's budget, for those who write leaf futures.
///
/// Call it before an operation that might be ready at once. When the budget is spent the task is
/// woken and `Pending` is returned, so it goes on after the others. Outside a loop there is no
/// budget.
///
/// # Examples
/// ```
/// use std::task::{Context, Poll, ready};
///
/// fn poll_pop<T>(queue: &mut Vec<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
///     ready!(polyloop::driver::poll_proceed(cx));
///     Poll::Ready(queue.pop())
/// }
/// # assert!(poll_pop(&mut vec![1], &mut Context::from_waker(std::task::Waker::noop())).is_ready());
/// ```
#[inline]
pub fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    if current(|event_loop| event_loop.proceed()) == Some(false) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

/// Reports whether the running task may complete another operation in this poll.
///
/// Outside a loop there is no budget.
#[inline]
pub(crate) fn has_budget() -> bool {
    current(|event_loop| event_loop.has_budget()) != Some(false)
}

/// How a combinator finds the budget at the start of a poll.
pub(crate) enum Start {
    /// Nothing is left: no branch may be polled. With a random number.
    Spent(u32),
    Plain,
    /// An enclosing combinator makes up for a poll in which this one was not reached. With a random
    /// number.
    Mixed(u32),
}

/// Looks at the budget for a combinator that is polled.
#[inline]
pub(crate) fn start() -> Start {
    current(|event_loop| event_loop.start()).unwrap_or(Start::Plain)
}

/// Reports whether there is budget, and nothing to make up for.
#[inline]
pub(crate) fn is_plain() -> bool {
    current(|event_loop| event_loop.is_plain()) != Some(false)
}

/// Takes one operation from the budget, for a result that is there already.
#[inline]
pub(crate) fn take_one() {
    current(|event_loop| event_loop.proceed());
}

/// Draws a number below `limit`, by the generator of the running loop or, without one, of the thread.
pub(crate) fn draw_below(limit: usize) -> usize {
    thread_local! {
        static RANDOM: Cell<u32> = const { Cell::new(RANDOM_SEED) };
    }
    let random = current(|event_loop| event_loop.draw());
    let random = random.or_else(|| RANDOM.try_with(next_random).ok()).unwrap_or_default();
    ((u64::from(random) * limit as u64) >> 32) as usize
}

/// The state that each generator of [`next_random`] starts with.
pub(crate) const RANDOM_SEED: u32 = 0x9e37_79b9;

/// Draws a number: Marsaglia's xorshift, the same sequence in every run.
pub(crate) fn next_random(state: &Cell<u32>) -> u32 {
    let mut random = state.get();
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    state.set(random);
    random
}

/// As long as it is there, combinators that are polled begin with any branch.
#[derive(Debug)]
pub(crate) struct MakingUp {
    /// The poll for which that was said before.
    former: Option<u64>,
}

impl MakingUp {
    pub(crate) fn begin() -> MakingUp {
        let former = current(|event_loop| event_loop.mixed_in.replace(event_loop.n_polls()));
        MakingUp { former }
    }
}

impl Drop for MakingUp {
    fn drop(&mut self) {
        if let Some(former) = self.former {
            current(|event_loop| event_loop.mixed_in.set(former));
        }
    }
}
