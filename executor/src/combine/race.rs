//! The first of several.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use super::turns::Turns;
use crate::event_loop::budget::take_one;

/// Holds one of two values.
///
/// # Examples
/// ```
/// use polyloop::future::Either;
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
/// left one may always be ready, [`FairRace`] gives the right one every second turn. For more than two
/// there is [`FairRace::race_of`].
///
/// When the task has spent its budget, which is 128 operations in one poll, the race yields to the other
/// tasks, and need not begin with the left one when it continues. So neither future keeps the other from
/// being polled: a stop message is received even if messages arrive faster than they are handled.
///
/// # Cancel safety
/// That of the future that is dropped.
///
/// # Examples
/// ```
/// use std::future::{pending, ready};
/// use polyloop::race;
/// use polyloop::future::Either;
///
/// # polyloop::run(async {
/// assert_eq!(race(ready(1), ready(2)).await, Either::Left(1));
/// assert_eq!(race(pending::<()>(), ready(2)).await, Either::Right(2));
/// # }).unwrap();
/// ```
pub async fn race<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let mut turns = Turns::new();
    poll_fn(|cx| poll_either(&mut turns, 0, a.as_mut(), b.as_mut(), cx)).await
}

/// Polls two futures, the one at position `first` first.
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
    // The same written out, for the usual case.
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

/// Races in turns: the future that is polled first changes from race to race, with no chance in
/// it.
///
/// # Examples
/// ```
/// use std::future::ready;
/// use polyloop::future::{Either, FairRace};
///
/// # polyloop::run(async {
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
    /// let fair = polyloop::future::FairRace::new();
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
    /// use polyloop::future::{Either, FairRace};
    ///
    /// # polyloop::run(async {
    /// let mut fair = FairRace::new();
    /// assert_eq!(fair.race(pending::<()>(), ready(2)).await, Either::Right(2));
    /// # }).unwrap();
    /// ```
    pub async fn race<A: Future, B: Future>(&mut self, a: A, b: B) -> Either<A::Output, B::Output> {
        let first = self.begin(2);
        let (mut a, mut b) = (pin!(a), pin!(b));
        let mut turns = Turns::new();
        poll_fn(|cx| poll_either(&mut turns, first, a.as_mut(), b.as_mut(), cx)).await
    }

    /// Awaits the first of any number of futures with one type of output, and returns its position
    /// and output.
    ///
    /// The first race polls them in written order, the next begins with the second, and so on
    /// around. The others stay pinned where they are, to be raced again or dropped.
    ///
    /// Every poll polls all of them, so it is meant for a few. Many are better run as the tasks of a
    /// [`JoinSet`](crate::JoinSet), where each costs what it does.
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
    /// use polyloop::future::FairRace;
    ///
    /// # polyloop::run(async {
    /// let mut fair = FairRace::new();
    /// for winner in [1, 1, 2] {
    ///     let (position, _) =
    ///         fair.race_of(&mut [pin!(pending()), pin!(ready('b')), pin!(ready('c'))]).await;
    ///     assert_eq!(position, winner);
    /// }
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn race_of<T>(
        &mut self,
        futures: &mut [Pin<&mut dyn Future<Output = T>>],
    ) -> impl Future<Output = (usize, T)> {
        // Here rather than in the first poll, which knows nothing of the caller.
        assert!(!futures.is_empty(), "a race without futures would never end");
        async move {
            let first = self.begin(futures.len());
            let mut turns = Turns::new();
            poll_fn(|cx| {
                turns.poll(futures.len(), first, cx, |position, cx| {
                    futures[position].as_mut().poll(cx).map(|output| (position, output))
                })
            })
            .await
        }
    }

    /// Begins a race and says who is polled first.
    fn begin(&mut self, n_futures: usize) -> usize {
        let first = self.n_races % n_futures;
        self.n_races = self.n_races.wrapping_add(1);
        first
    }
}
