//! Signals as futures.
//!
//! The handler does nothing but an async-signal-safe write that makes a descriptor readable; the
//! loop does the rest. While somebody listens for a signal its default action does not happen. A handler
//! that was installed before, by the program or by another copy of this library, is called as well; when
//! the last listener is gone, the old disposition is back.
//!
//! Signals coalesce: a listener learns that the signal came at least once since it last looked,
//! not how often.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use polyloop_executor::poll_proceed;
use polyloop_reactor::{Direction, SignalFd};

use crate::AsyncFd;

/// Waits for an interrupt (`SIGINT`, Ctrl-C).
///
/// It listens from this call on, not from the first poll. Every call is a listener of its own,
/// and one signal wakes them all.
///
/// # Errors
/// The future returns what went wrong with setting up the handler or with waiting.
///
/// # Cancel safety
/// A signal that came before the future was dropped is gone with it.
///
/// # Examples
/// ```no_run
/// # polyloop::run(async {
/// println!("press Ctrl-C");
/// polyloop::signal::ctrl_c().await?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub fn ctrl_c() -> Signalled {
    Signalled::listen(SignalFd::INTERRUPT)
}

/// Waits for a request to terminate (`SIGTERM`), as [`ctrl_c`] does for an interrupt.
///
/// # Errors
/// The future returns what went wrong with setting up the handler or with waiting.
///
/// # Cancel safety
/// A signal that came before the future was dropped is gone with it.
pub fn terminate() -> Signalled {
    Signalled::listen(SignalFd::TERMINATE)
}

/// Is ready when a signal has come. Made by [`ctrl_c`] and [`terminate`].
#[must_use = "futures do nothing unless awaited"]
pub struct Signalled {
    future: Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>,
}

impl Signalled {
    fn listen(signal: i32) -> Signalled {
        let listener = SignalFd::listen(signal).map(AsyncFd::from_nonblocking);
        Signalled {
            future: Box::pin(async move {
                poll_fn(poll_proceed).await;
                let listener = listener?;
                let take = |fd: &SignalFd| match fd.take()? {
                    true => Ok(()),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                };
                listener.async_io(Direction::Read, take).await
            }),
        }
    }
}

impl Future for Signalled {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Signalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signalled").finish_non_exhaustive()
    }
}
