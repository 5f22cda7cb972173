//! The first of two.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Holds one of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Either<L, R> {
    /// The first one's.
    Left(L),
    /// The second one's.
    Right(R),
}

/// Awaits the first of two futures and drops the other.
///
/// They are polled in written order, so if both are ready the left one wins. In a loop where the
/// left one may always be ready, [`FairRace`] lets the right one have its turn.
///
/// # Cancel safety
/// That of the future that is dropped.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use polyloop_executor::{Either, race};
///
/// # polyloop_executor::run(async {
/// assert_eq!(race(ready(1), ready(2)).await, Either::Left(1));
/// assert_eq!(race(pending::<()>(), ready(2)).await, Either::Right(2));
/// # }).unwrap();
/// ```
pub async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match poll_left(a.as_mut(), cx) {
        Poll::Pending => poll_right(b.as_mut(), cx),
        ready => ready,
    })
    .await
}

/// Races in turns: the future that is polled first changes from race to race, with no chance in
/// it.
///
/// # Examples
/// ```
/// use std::future::ready;
/// use polyloop_executor::{Either, FairRace};
///
/// # polyloop_executor::run(async {
/// let mut fair = FairRace::new();
/// assert_eq!(fair.race(ready(1), ready(2)).await, Either::Left(1));
/// assert_eq!(fair.race(ready(1), ready(2)).await, Either::Right(2));
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct FairRace {
    right_first: bool,
}

impl FairRace {
    /// Begins with the left one.
    pub fn new() -> FairRace {
        FairRace::default()
    }

    /// Awaits the first of two futures and drops the other.
    ///
    /// # Cancel safety
    /// That of the future that is dropped.
    pub async fn race<A: Future, B: Future>(&mut self, a: A, b: B) -> Either<A::Output, B::Output> {
        let right_first = self.right_first;
        self.right_first = !right_first;
        let (mut a, mut b) = (pin!(a), pin!(b));
        poll_fn(|cx| {
            if right_first && let ready @ Poll::Ready(_) = poll_right(b.as_mut(), cx) {
                return ready;
            }
            match poll_left(a.as_mut(), cx) {
                Poll::Pending if !right_first => poll_right(b.as_mut(), cx),
                polled => polled,
            }
        })
        .await
    }
}

fn poll_left<A: Future, R>(a: Pin<&mut A>, cx: &mut Context<'_>) -> Poll<Either<A::Output, R>> {
    a.poll(cx).map(Either::Left)
}

fn poll_right<B: Future, L>(b: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Either<L, B::Output>> {
    b.poll(cx).map(Either::Right)
}
