//! A loop seen from other threads.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use crate::mailbox::{self, Mail};
use crate::packet::Packet;
use crate::stage::quietly;
use crate::sync::Arc;
use crate::waker::current;
use crate::{JoinError, JoinHandle};

/// Reaches a loop from any thread: two numbers, free to copy and to keep.
///
/// It does not keep the loop alive. Waking a task from another thread needs no handle: every
/// [`Waker`](std::task::Waker) does that.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let handle = polyloop_executor::Handle::current().unwrap();
/// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }));
/// let task = polyloop_executor::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
/// assert_eq!(task.await.unwrap(), 42);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    number: u16,
    incarnation: u32,
}

impl Handle {
    pub(crate) fn new(number: u16, incarnation: u32) -> Handle {
        Handle { number, incarnation }
    }

    /// Returns the handle of the loop that runs on this thread, if one does.
    ///
    /// # Examples
    /// ```
    /// use polyloop_executor::Handle;
    ///
    /// assert!(Handle::current().is_none());
    /// # polyloop_executor::run(async {
    /// assert!(Handle::current().is_some());
    /// # }).unwrap();
    /// ```
    pub fn current() -> Option<Handle> {
        current(|event_loop| event_loop.handle())
    }

    /// Starts a task on the loop, from whatever thread.
    ///
    /// The returned handle can be awaited anywhere. If the loop has ended, or ends before the
    /// task does, its output is a [`JoinError`] that says cancelled; likewise, with another text, if
    /// 16,777,215 tasks are alive when the loop is to start it.
    ///
    /// # References
    /// Python's `asyncio.run_coroutine_threadsafe`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop_executor::{Runtime, spawn_blocking};
    ///
    /// let runtime = Runtime::new()?;
    /// let handle = runtime.handle();
    /// // A plain thread asks the loop for something and waits for the answer.
    /// let thread = std::thread::spawn(move || {
    ///     handle.spawn(async { 6 * 7 }).join(Duration::from_secs(60)).unwrap().unwrap()
    /// });
    /// let answer = runtime.block_on(async { spawn_blocking(|| thread.join().unwrap()).await })?;
    /// assert_eq!(answer.unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (packet, sender) = Packet::new();
        let started = Arc::clone(&packet);
        let spawned_at = Location::caller();
        let start = move || {
            current(|event_loop| {
                if !event_loop.has_room() {
                    quietly(|| drop(future));
                    return sender.send(Err(JoinError::refused()));
                }
                let work = async move {
                    let outcome = catch_panic(future).await;
                    if let Err(error) = &outcome
                        && sender.is_unwanted()
                    {
                        report_lost(error);
                    }
                    sender.send(outcome);
                };
                let task = event_loop.spawn(work, spawned_at);
                event_loop.detach(task);
                started.is_done_by(task);
            });
        };
        // If the loop is gone the letter is dropped, and the sender in it says cancelled.
        mailbox::send_to(self.number, self.incarnation, Mail::Run(Box::new(start)));
        JoinHandle::of_packet(packet)
    }
}

/// Tells of a panic whose handle is gone, if the loop is in debug mode.
fn report_lost(error: &JoinError) {
    current(|event_loop| {
        if let Some(id) = event_loop.current_task() {
            event_loop.report_lost(id.token(), error.panic_text());
        }
    });
}

/// Awaits `future` and turns its panic into an error.
///
/// # Cancel safety
/// As for `future`.
pub(crate) async fn catch_panic<F: Future>(future: F) -> Result<F::Output, JoinError> {
    let mut future = pin!(Some(future));
    poll_fn(|cx| poll_caught(future.as_mut(), cx)).await
}

/// Polls `future`, turns its panic into an error, and drops it when it has ended.
///
/// For a caller that makes the future where it polls it: one that is handed to an `async fn` is held
/// twice, as what was handed over and as what is polled.
///
/// # Panics
/// If the future has ended.
pub fn poll_caught<F: Future>(
    mut future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, JoinError>> {
    let polled = catch_unwind(AssertUnwindSafe(|| {
        let unfinished = future.as_mut().as_pin_mut().expect("it is not polled again");
        let output = ready!(unfinished.poll(cx));
        future.set(None);
        Poll::Ready(output)
    }));
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(payload) => {
            quietly(|| future.set(None));
            Poll::Ready(Err(JoinError::panicked(payload)))
        }
    }
}
