//! Time limits for futures.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{Sleep, sleep, sleep_until};

/// Requires `future` to complete before `duration` has elapsed, counted from this call.
///
/// The future is polled before the deadline is checked, so a future that is ready at its first poll completes even if
/// `duration` is zero. For a deadline that can be moved, and for [`shielded`](crate::shielded) sections, use
/// [`CancelScope`](crate::CancelScope).
///
/// # Errors
/// [`Elapsed`] if the duration elapses first. `future` is then dropped, which cancels it.
///
/// # Panics
/// Panics if polled outside a runtime.
///
/// # Cancel safety
/// Dropping the returned future drops `future`, so cancel safety is that of `future`.
///
/// # References
/// Python's `asyncio.timeout`.
///
/// # Examples
/// ```
/// use std::future::pending;
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let late = polyloop::timeout(Duration::from_millis(1), pending::<()>()).await;
/// assert!(late.is_err());
/// # }).unwrap();
/// ```
pub fn timeout<F: Future>(
    duration: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    before(sleep(duration), future)
}

/// Requires `future` to complete before `deadline`, as [`timeout`] does.
///
/// # Errors
/// [`Elapsed`] if the deadline is reached first. `future` is then dropped, which cancels it.
///
/// # Panics
/// Panics if polled outside a runtime.
///
/// # Cancel safety
/// Dropping the returned future drops `future`, so cancel safety is that of `future`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::time::{now, timeout_at};
///
/// # polyloop::run(async {
/// let deadline = now() + Duration::from_millis(1);
/// assert!(timeout_at(deadline, sleep(Duration::from_secs(60))).await.is_err());
/// # }).unwrap();
/// ```
pub fn timeout_at<F: Future>(
    deadline: Instant,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    before(sleep_until(deadline), future)
}

async fn before<F: Future>(sleep: Sleep, future: F) -> Result<F::Output, Elapsed> {
    let mut sleep = pin!(sleep);
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed(()))),
    })
    .await
}

/// The error of an operation whose deadline was reached. Converts to an [`io::Error`] of kind `TimedOut`.
///
/// # Examples
/// ```
/// use std::io;
/// use std::time::Duration;
/// use polyloop::timeout;
///
/// # polyloop::run(async {
/// let late = timeout(Duration::ZERO, std::future::pending::<()>()).await;
/// assert_eq!(io::Error::from(late.unwrap_err()).kind(), io::ErrorKind::TimedOut);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl Elapsed {
    pub(crate) fn new() -> Elapsed {
        Elapsed(())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}
