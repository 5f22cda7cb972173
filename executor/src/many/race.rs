//! The first of several.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Holds one of two values.
///
/// # Examples
/// ```
/// use polyloop_executor::Either;
/// let either: Either<i32, &str> = Either::Left(1);
/// assert_eq!(either, Either::Left(1));
/// ```
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
/// left one may always be ready, [`FairRace`] lets the right one have its turn. For more than two
/// there is [`FairRace::race_of`].
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
    n_races: usize,
}

impl FairRace {
    /// Begins with the left one, or the first.
    ///
    /// # Examples
    /// ```
    /// let fair = polyloop_executor::FairRace::new();
    /// ```
    pub fn new() -> FairRace {
        FairRace::default()
    }

    /// Awaits the first of two futures and drops the other.
    ///
    /// # Cancel safety
    /// That of the future that is dropped. The race counts.
    ///
    /// # Examples
    /// ```
    /// use std::future::{pending, ready};
    /// use polyloop_executor::{Either, FairRace};
    ///
    /// # polyloop_executor::run(async {
    /// let mut fair = FairRace::new();
    /// assert_eq!(fair.race(pending::<()>(), ready(2)).await, Either::Right(2));
    /// # }).unwrap();
    /// ```
    pub async fn race<A: Future, B: Future>(&mut self, a: A, b: B) -> Either<A::Output, B::Output> {
        let right_first = self.begin(2) == 1;
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

    /// Awaits the first of any number of futures with one type of output, and returns its position
    /// and output.
    ///
    /// The first race polls them in written order, the next begins with the second, and so on
    /// around. The others stay pinned where they are, to be raced again or dropped.
    ///
    /// # Panics
    /// If there are none.
    ///
    /// # Cancel safety
    /// That of the futures. The race counts.
    ///
    /// # Examples
    /// ```
    /// use std::future::{pending, ready};
    /// use std::pin::pin;
    /// use polyloop_executor::FairRace;
    ///
    /// # polyloop_executor::run(async {
    /// let mut fair = FairRace::new();
    /// for winner in [1, 1, 2] {
    ///     let (position, _) =
    ///         fair.race_of(&mut [pin!(pending()), pin!(ready('b')), pin!(ready('c'))]).await;
    ///     assert_eq!(position, winner);
    /// }
    /// # }).unwrap();
    /// ```
    pub async fn race_of<T>(
        &mut self,
        futures: &mut [Pin<&mut dyn Future<Output = T>>],
    ) -> (usize, T) {
        assert!(!futures.is_empty(), "a race without futures would never end");
        let first = self.begin(futures.len());
        poll_fn(|cx| {
            for turn in 0..futures.len() {
                let position = (first + turn) % futures.len();
                if let Poll::Ready(output) = futures[position].as_mut().poll(cx) {
                    return Poll::Ready((position, output));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Begins a race and says who is polled first.
    fn begin(&mut self, n_futures: usize) -> usize {
        let first = self.n_races % n_futures;
        self.n_races = self.n_races.wrapping_add(1);
        first
    }
}

fn poll_left<A: Future, R>(a: Pin<&mut A>, cx: &mut Context<'_>) -> Poll<Either<A::Output, R>> {
    a.poll(cx).map(Either::Left)
}

fn poll_right<B: Future, L>(b: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Either<L, B::Output>> {
    b.poll(cx).map(Either::Right)
}
