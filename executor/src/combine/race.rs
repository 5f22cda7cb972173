//! The first of several futures.
//!
//! Which future a fair race polls first is random rather than in strict turns. Turns would need a counter that
//! outlives the race: one that the caller keeps is a second object to create, and one for all races of a thread
//! resonates with loops in which the number of races per round is even, whose outer race would always start on
//! the same side.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::fairness::Turns;
use crate::raw::pair::Pair;
use crate::running::{draw_below, take_one};

/// Holds the output of the first of two futures.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use polyloop::race;
/// use polyloop::future::Either;
///
/// # polyloop::run(async {
/// match race(ready(1), pending::<&str>()).await {
///     Either::Left(number) => assert_eq!(number, 1),
///     Either::Right(text) => println!("{text}"),
/// }
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Either<L, R> {
    /// The left future's output.
    Left(L),
    /// The right future's output.
    Right(R),
}

impl<L, R> Either<L, R> {
    /// Returns the output of the right future, if that completed first.
    pub(crate) fn right(self) -> Option<R> {
        match self {
            Either::Left(_) => None,
            Either::Right(output) => Some(output),
        }
    }
}

/// Awaits the first of two futures to complete, and drops the other one.
///
/// The futures are polled in the order in which they are written: if both are ready, the output is the left one's.
/// In a loop, a left future that is always ready keeps the right one from completing until the task's budget is
/// spent; [`race`] gives both the same chance.
///
/// A task may complete 128 operations in one poll. When they are spent, `or` yields to the other tasks, and may
/// poll the right future first when it continues. A stop message on the right is therefore received even if
/// messages on the left arrive faster than they are handled.
///
/// # Cancel safety
/// Cancel safe if both futures are: the one that does not complete first is dropped.
///
/// # References
/// futures-lite's `or`, `tokio::select!` with `biased`, `futures::select_biased!`.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use polyloop::future::{Either, or};
///
/// # polyloop::run(async {
/// assert_eq!(or(ready(1), ready(2)).await, Either::Left(1));
/// assert_eq!(or(pending::<()>(), ready(2)).await, Either::Right(2));
/// # }).unwrap();
/// ```
#[doc(alias = "select_biased")]
pub fn or<A: Future, B: Future>(a: A, b: B) -> impl Future<Output = Either<A::Output, B::Output>> {
    first_of(a, b, 0, |output| output)
}

/// Awaits the first of two futures to complete, and drops the other one, with no preference.
///
/// Each race polls either future first, chosen at random, so that in a loop of races neither of two futures that
/// are always ready keeps the other one from completing. [`or`] prefers the left future; [`race_all`] races any
/// number.
///
/// # Cancel safety
/// Cancel safe if both futures are: the one that does not complete first is dropped.
///
/// # References
/// futures-lite's `race`, `tokio::select!`, `futures::select!`.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use polyloop::race;
/// use polyloop::future::Either;
///
/// # polyloop::run(async {
/// assert_eq!(race(pending::<()>(), ready(2)).await, Either::Right(2));
/// let mut n_left = 0;
/// for _ in 0..100 {
///     if let Either::Left(()) = race(ready(()), ready(())).await {
///         n_left += 1;
///     }
/// }
/// assert!((20..80).contains(&n_left));
/// # }).unwrap();
/// ```
#[doc(alias = "select")]
pub fn race<A: Future, B: Future>(
    a: A,
    b: B,
) -> impl Future<Output = Either<A::Output, B::Output>> {
    first_of(a, b, draw_below(2), |output| output)
}

/// Awaits the first of two futures, and drops both when it completes. Each poll starts with the one at position
/// `first`. `map` makes the output.
pub(crate) fn first_of<A: Future, B: Future, T>(
    a: A,
    b: B,
    first: usize,
    map: impl Fn(Either<A::Output, B::Output>) -> T,
) -> impl Future<Output = T> {
    Pair::new(Some(a), Some(b), Turns::new(), move |mut a, mut b, turns, cx| {
        let running = (a.as_mut().as_pin_mut(), b.as_mut().as_pin_mut());
        let (Some(left), Some(right)) = running else { panic!("a race was polled after its end") };
        let polled = poll_either(turns, first, left, right, cx);
        if polled.is_ready() {
            a.set(None);
            b.set(None);
        }
        polled.map(&map)
    })
}

/// Awaits the first of several futures to complete, and returns its position and output.
///
/// The futures have one type of output. They stay pinned where they are, so those that do not complete can be
/// raced again. Each race polls them in written order, starting with one that is chosen at random.
///
/// Every poll polls all of the futures, which suits a few. To wait for many, spawn them into a
/// [`JoinSet`](crate::JoinSet), which polls only those that were woken.
///
/// # Panics
/// Panics if `futures` is empty.
///
/// # Cancel safety
/// Cancel safe if the futures are: they are not dropped.
///
/// # References
/// `futures::future::select_all`.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use std::pin::pin;
/// use polyloop::future::race_all;
///
/// # polyloop::run(async {
/// let first = race_all(&mut [pin!(pending()), pin!(ready('b'))]).await;
/// assert_eq!(first, (1, 'b'));
/// # }).unwrap();
/// ```
#[doc(alias = "select_all")]
#[track_caller]
pub fn race_all<T>(
    futures: &mut [Pin<&mut dyn Future<Output = T>>],
) -> impl Future<Output = (usize, T)> {
    // Here rather than in the first poll, whose caller is the executor.
    assert!(!futures.is_empty(), "a race without futures would never end");
    async move {
        let first = draw_below(futures.len());
        let mut turns = Turns::new();
        poll_fn(|cx| {
            turns.poll(futures.len(), first, cx, |position, cx| {
                futures[position].as_mut().poll(cx).map(|output| (position, output))
            })
        })
        .await
    }
}

/// Polls two futures, starting with the one at position `first`.
#[inline]
fn poll_either<A: Future, B: Future>(
    turns: &mut Turns,
    first: usize,
    a: Pin<&mut A>,
    b: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Either<A::Output, B::Output>> {
    if first != 0 || !turns.are_plain() {
        return poll_in_turns(turns, first, a, b, cx);
    }
    // The same as in `poll_in_turns`, written out for the common case.
    let polled = match a.poll(cx) {
        Poll::Ready(output) => Poll::Ready(Either::Left(output)),
        Poll::Pending if turns.may_go_on(1, cx) => b.poll(cx).map(Either::Right),
        Poll::Pending => Poll::Pending,
    };
    if polled.is_ready() {
        take_one();
    }
    polled
}

#[inline(never)]
fn poll_in_turns<A: Future, B: Future>(
    turns: &mut Turns,
    first: usize,
    mut a: Pin<&mut A>,
    mut b: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Either<A::Output, B::Output>> {
    turns.poll(2, first, cx, |branch, cx| match branch {
        0 => a.as_mut().poll(cx).map(Either::Left),
        _ => b.as_mut().poll(cx).map(Either::Right),
    })
}
