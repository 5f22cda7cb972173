//! Giving way.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Lets the other tasks that are ready run before this one goes on.
///
/// # Cancel safety
/// Nothing is lost.
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

/// Is pending once. Made by [`yield_now`].
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
