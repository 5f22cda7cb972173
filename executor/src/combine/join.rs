//! The macros `join!` and `try_join!`: several futures of different types at once, without tasks or allocation.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Waits for several futures concurrently in one task, and returns a tuple of their outputs.
///
/// The futures may borrow and may have different types. At each wake, the unfinished ones are polled in written order;
/// if one spends the task's budget, the others come first in the next poll. A finished future is dropped at once.
/// Nothing is allocated. For any number of futures of one type, which run as tasks, use [`gather`](crate::gather).
///
/// The macro awaits the futures: write `join!(a, b)` without `.await`.
///
/// # Panics
/// Panics if one of the futures panics.
///
/// # Cancel safety
/// Dropping the enclosing future drops the unfinished futures and the outputs of the finished ones.
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
    // Each `let` of the recursion is a separate variable.
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

/// Waits for several fallible futures concurrently in one task, and returns a tuple of their values, or the first error.
///
/// This is [`join!`](crate::join) for futures that return `Result`s with the same error type. On the first error, the
/// unfinished futures are dropped. For any number of futures of one type, use [`try_gather`](crate::try_gather).
///
/// The macro awaits the futures: write `try_join!(a, b)?` without `.await`.
///
/// # Errors
/// Returns the first error. If several futures fail in the same poll, it is the first in written order.
///
/// # Panics
/// Panics if one of the futures panics.
///
/// # Cancel safety
/// Dropping the enclosing future drops the unfinished futures and the values of the finished ones.
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

/// A future of a [`join!`](crate::join), and later its output. For the macros only.
#[doc(hidden)]
pub struct Branch<'a, F: Future> {
    /// `None` when it has finished.
    future: Pin<&'a mut Option<F>>,
    output: Option<F::Output>,
}

impl<'a, F: Future> Branch<'a, F> {
    /// Creates it with an unpolled future.
    pub fn new(future: Pin<&'a mut Option<F>>) -> Branch<'a, F> {
        Branch { future, output: None }
    }

    /// Polls the future unless it has finished.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return };
        let Poll::Ready(output) = future.poll(cx) else { return };
        self.future.set(None);
        self.output = Some(output);
    }

    /// Reports whether the future has finished.
    pub fn is_done(&self) -> bool {
        self.future.is_none()
    }

    /// Returns the output of a finished future.
    pub fn into_output(self) -> F::Output {
        self.output.expect("all branches are done")
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Branch<'_, F> {
    /// Takes the error of a future that has failed.
    pub fn take_error(&mut self) -> Option<E> {
        self.output.take_if(|output| output.is_err())?.err()
    }

    /// Returns the value of a future that has succeeded.
    pub fn into_value(self) -> T {
        self.output.and_then(Result::ok).expect("all branches are done and none has failed")
    }
}

impl<F: Future> fmt::Debug for Branch<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").field("is_done", &self.output.is_some()).finish_non_exhaustive()
    }
}
