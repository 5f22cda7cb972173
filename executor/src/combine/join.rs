//! Many futures of different types at once, in place: no tasks and no allocation.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Awaits all of several futures at the same time, in one task, and returns a tuple of their
/// outputs.
///
/// The futures may borrow from their surroundings and have different types. At each wake those that
/// are not done are polled in written order; if one of them spends the task's budget, the others are
/// polled first in the next poll. One that is done is dropped at once and not polled again. Nothing is allocated. For a number that is not known beforehand, and for futures that
/// are to run as tasks, there is [`gather`](crate::gather).
///
/// It awaits by itself: write `join!(a, b)`, without `.await`.
///
/// # Panics
/// If one of the futures does.
///
/// # Cancel safety
/// The futures that are not done are dropped, and the outputs of the others with them.
///
/// # References
/// `tokio::join!`, `futures::join!`; Python's `asyncio.gather`.
///
/// # Examples
/// ```
/// use polyloop::{join, yield_now};
///
/// # polyloop::run(async {
/// let text = String::from("borrowed");
/// let length = async {
///     yield_now().await;
///     text.len()
/// };
/// assert_eq!(join!(length, async { text.as_str() }), (8, "borrowed"));
/// # }).unwrap();
/// ```
#[macro_export]
macro_rules! join {
    // A `let` of each round is another variable than those of the rounds before.
    (@ ($($branch:ident)*) $future:expr, $($rest:tt)*) => {{
        let branch = ::std::pin::pin!(::std::option::Option::Some($future));
        let mut branch = $crate::Branch::new(branch);
        $crate::join!(@ ($($branch)* branch) $($rest)*)
    }};
    (@ ($($branch:ident)*)) => {{
        let mut turns = $crate::Turns::new();
        ::std::future::poll_fn(|cx| {
            turns.poll([$(::std::stringify!($branch)),*].len(), 0, cx, |turn, cx| {
                let mut position = 0;
                $(
                    if position == turn {
                        $branch.poll(cx);
                    }
                    position += 1;
                )*
                let all_done = turn < position $(&& $branch.is_done())*;
                if all_done { ::std::task::Poll::Ready(()) } else { ::std::task::Poll::Pending }
            })
        })
        .await;
        ($($branch.into_output(),)*)
    }};
    ($($future:expr),+ $(,)?) => { $crate::join!(@ () $($future,)*) };
}

/// Awaits all of several futures at the same time, in one task, and returns a tuple of their
/// values, or the first error.
///
/// As [`join!`](crate::join), but the futures return `Result`s with one type of error. At an
/// error those that are not done are dropped. For a number that is not known beforehand there is
/// [`try_gather`](crate::try_gather).
///
/// It awaits by itself: write `try_join!(a, b)?`, without `.await`.
///
/// # Errors
/// The first that comes; of several that come in one poll, the first in written order.
///
/// # Panics
/// If one of the futures does.
///
/// # Cancel safety
/// The futures that are not done are dropped, and the values of the others with them.
///
/// # References
/// `tokio::try_join!`, `futures::try_join!`; Python's `asyncio.gather`.
///
/// # Examples
/// ```
/// use polyloop::try_join;
///
/// # polyloop::run(async {
/// let parsed = try_join!(async { "7".parse::<i32>() }, async { "x".parse::<i32>() });
/// assert!(parsed.is_err());
/// # }).unwrap();
/// ```
#[macro_export]
macro_rules! try_join {
    (@ ($($branch:ident)*) $future:expr, $($rest:tt)*) => {{
        let branch = ::std::pin::pin!(::std::option::Option::Some($future));
        let mut branch = $crate::Branch::new(branch);
        $crate::try_join!(@ ($($branch)* branch) $($rest)*)
    }};
    (@ ($($branch:ident)*)) => {{
        let mut turns = $crate::Turns::new();
        let error = ::std::future::poll_fn(|cx| {
            turns.poll([$(::std::stringify!($branch)),*].len(), 0, cx, |turn, cx| {
                let mut position = 0;
                $(
                    if position == turn {
                        $branch.poll(cx);
                        if let error @ ::std::option::Option::Some(_) = $branch.take_error() {
                            return ::std::task::Poll::Ready(error);
                        }
                    }
                    position += 1;
                )*
                let all_done = turn < position $(&& $branch.is_done())*;
                let none = ::std::option::Option::None;
                if all_done { ::std::task::Poll::Ready(none) } else { ::std::task::Poll::Pending }
            })
        })
        .await;
        match error {
            ::std::option::Option::None => ::std::result::Result::Ok(($($branch.into_value(),)*)),
            ::std::option::Option::Some(error) => ::std::result::Result::Err(error),
        }
    }};
    ($($future:expr),+ $(,)?) => { $crate::try_join!(@ () $($future,)*) };
}

/// One future of a [`join!`](crate::join), and later its output. For the macros alone.
#[doc(hidden)]
pub struct Branch<'a, F: Future> {
    /// None when it is done.
    future: Pin<&'a mut Option<F>>,
    output: Option<F::Output>,
}

impl<'a, F: Future> Branch<'a, F> {
    /// Begins with a future that was not polled.
    pub fn new(future: Pin<&'a mut Option<F>>) -> Branch<'a, F> {
        Branch { future, output: None }
    }

    /// Polls the future unless it is done.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return };
        let Poll::Ready(output) = future.poll(cx) else { return };
        self.future.set(None);
        self.output = Some(output);
    }

    /// Reports whether the future is done.
    pub fn is_done(&self) -> bool {
        self.future.is_none()
    }

    /// Returns the output of a future that is done.
    pub fn into_output(self) -> F::Output {
        self.output.expect("all branches are done")
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Branch<'_, F> {
    /// Takes the error of a future that has failed.
    pub fn take_error(&mut self) -> Option<E> {
        self.output.take_if(|output| output.is_err())?.err()
    }

    /// Returns the value of a future that is done and has not failed.
    pub fn into_value(self) -> T {
        self.output.and_then(Result::ok).expect("all branches are done and none has failed")
    }
}

impl<F: Future> fmt::Debug for Branch<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("is_done", &self.output.is_some()).finish_non_exhaustive()
    }
}
