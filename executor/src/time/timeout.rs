//! Time limits for futures.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::{Sleep, sleep, sleep_until};
use crate::raw::pair::Pair;

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

/// Awaits `future` or `sleep`, and drops both when one completes.
fn before<F: Future>(sleep: Sleep, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    Pair::new(Some(future), (), Some(sleep), |mut future, _, sleep, cx| {
        let running = (future.as_mut().as_pin_mut(), &mut *sleep);
        let (Some(body), Some(timer)) = running else {
            panic!("a timeout was polled after its end")
        };
        let polled = match body.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => Pin::new(timer).poll(cx).map(|()| Err(Elapsed(()))),
        };
        if polled.is_ready() {
            future.set(None);
            *sleep = None;
        }
        polled
    })
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
