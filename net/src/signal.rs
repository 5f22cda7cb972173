//! Signals as futures.
//!
//! While a listener for a signal exists, the signal's default action does not happen. A handler that was installed
//! before, by the program or by another copy of this library, is called as well. When the last listener is dropped,
//! the previous disposition is restored.
//!
//! Signals coalesce: a listener learns that a signal arrived at least once since the last time, not how
//! often.
//!
//! The signal handler only makes a descriptor readable, which is async-signal-safe; the loop does the rest.

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
/// The listener is installed by this call, not by the first poll. Each call creates a listener, and a signal
/// completes all of them.
///
/// # Errors
/// The future returns an error if the listener cannot be installed, as when no file descriptor is available.
///
/// # Cancel safety
/// A signal that arrived before the future is dropped is lost to this listener.
///
/// # Examples
/// ```no_run
/// # polyloop::run(async {
/// println!("press Ctrl-C");
/// polyloop::signal::ctrl_c().await?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[doc(alias = "SIGINT")]
pub fn ctrl_c() -> Signal {
    Signal::listen(SignalFd::INTERRUPT)
}

/// Waits for a request to terminate (`SIGTERM`), as [`ctrl_c`] does for an interrupt.
///
/// # Errors
/// The future returns an error if the listener cannot be installed, as when no file descriptor is available.
///
/// # Cancel safety
/// A signal that arrived before the future is dropped is lost to this listener.
///
/// # Examples
/// A server that shuts down when a service manager asks it to:
/// ```no_run
/// use polyloop::net::{Server, TcpStream};
///
/// # polyloop::run(async {
/// let server = Server::bind("127.0.0.1:7000")?;
/// let handle = server.shutdown_handle();
/// polyloop::spawn(async move {
///     let result = polyloop::signal::terminate().await;
///     handle.shutdown();
///     result
/// });
/// server.serve(async |stream: TcpStream, _session| stream.write_all(b"hello\n").await).await?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[doc(alias = "SIGTERM")]
pub fn terminate() -> Signal {
    Signal::listen(SignalFd::TERMINATE)
}

/// Completes when a signal has arrived. Made by [`ctrl_c`] and [`terminate`].
#[must_use = "futures do nothing unless awaited"]
pub struct Signal {
    future: Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>,
}

impl Signal {
    fn listen(signal: i32) -> Signal {
        let listener = SignalFd::listen(signal).map(AsyncFd::from_nonblocking);
        Signal {
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

impl Future for Signal {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.future.as_mut().poll(cx)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").finish_non_exhaustive()
    }
}
