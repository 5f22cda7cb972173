//! Yielding to other tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Yields to the other ready tasks: they run before this task continues.
///
/// # Cancel safety
/// Dropping the future has no effect.
///
/// # References
/// Python's `asyncio.sleep(0)`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// for _ in 0..3 {
///     polyloop::yield_now().await;
/// }
/// # }).unwrap();
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future returned by [`yield_now`]. Is pending once.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
