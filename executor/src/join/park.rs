//! Waiting for an output on a thread that runs no loop.

use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::raw::current::current;
use crate::running::now;
use crate::time::Elapsed;
use crate::{JoinError, JoinHandle};

impl<T> JoinHandle<T> {
    /// Blocks the thread until the task has finished, and returns its output.
    ///
    /// For threads that do not run a loop; a task awaits the handle instead. On the thread of the task's own
    /// runtime it never returns, because the task makes no progress meanwhile.
    ///
    /// # Errors
    /// As for awaiting the handle.
    ///
    /// # Panics
    /// Panics within a runtime, which it would block, and if the output was returned before.
    ///
    /// # References
    /// `std::thread::JoinHandle::join`, Python's `concurrent.futures.Future.result`.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let handle = polyloop::Handle::current().unwrap();
    /// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }).join());
    /// let joined = polyloop::spawn_blocking(|| thread.join().unwrap()).await;
    /// assert_eq!(joined.unwrap().unwrap(), 42);
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn join(mut self) -> Result<T, JoinError>
    where
        T: 'static,
    {
        let parker = Parker::new();
        loop {
            if let Poll::Ready(output) = parker.poll(&mut self) {
                return output;
            }
            thread::park();
        }
    }

    /// Blocks the thread until the task has finished, for `timeout` at most, and returns its output.
    ///
    /// # Errors
    /// [`Elapsed`] if the task has not finished in time. The handle can be used again.
    ///
    /// # Panics
    /// As for [`join`](JoinHandle::join).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = polyloop::Runtime::new()?;
    /// let mut task = runtime.spawn(async { 7 });
    /// // The runtime does not run.
    /// assert!(task.join_timeout(Duration::from_millis(1)).is_err());
    /// assert_eq!(runtime.block_on(task)?.unwrap(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Result<T, JoinError>, Elapsed>
    where
        T: 'static,
    {
        let parker = Parker::new();
        let deadline = now().checked_add(timeout);
        loop {
            if let Poll::Ready(output) = parker.poll(self) {
                return Ok(output);
            }
            let Some(deadline) = deadline else {
                thread::park();
                continue;
            };
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Err(Elapsed::new());
            }
            thread::park_timeout(left);
        }
    }
}

/// Polls handles on a thread that parks in between.
struct Parker {
    waker: Waker,
}

impl Parker {
    /// # Panics
    /// Panics within a runtime.
    #[track_caller]
    fn new() -> Parker {
        struct Unpark(Thread);

        impl Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }

        assert!(
            current(|_| ()).is_none(),
            "`JoinHandle::join` was called within a runtime, which it would block: await the handle"
        );
        Parker { waker: Waker::from(std::sync::Arc::new(Unpark(thread::current()))) }
    }

    #[track_caller]
    fn poll<T: 'static>(&self, handle: &mut JoinHandle<T>) -> Poll<Result<T, JoinError>> {
        Pin::new(handle).poll(&mut Context::from_waker(&self.waker))
    }
}
