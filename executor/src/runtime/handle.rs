//! [`Handle`]: access to a loop from other threads.

use std::future::poll_fn;
use std::mem::size_of;
use std::panic::Location;
use std::pin::pin;

use crate::catch::quietly;
use crate::event_loop::mailbox::{self, Address, Command};
use crate::join::packet::Packet;
use crate::join::requests::bind;
use crate::raw::current::current;
use crate::running::poll_outcome;
use crate::sync::Arc;
use crate::{JoinError, JoinHandle};

/// A handle to a runtime, which spawns tasks and schedules callbacks from any thread.
///
/// It is cheap to clone, and does not keep the runtime alive. A [`Waker`](std::task::Waker) of a task can be used on any
/// thread without a handle.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let handle = polyloop::Handle::current().unwrap();
/// let thread = std::thread::spawn(move || handle.spawn(async { 6 * 7 }));
/// let task = polyloop::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
/// assert_eq!(task.await.unwrap(), 42);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    address: Address,
}

/// Futures up to this size are moved to the other thread inline, larger ones in a box.
const MOVED_BYTES: usize = 128;

impl Handle {
    pub(crate) fn new(address: Address) -> Handle {
        Handle { address }
    }

    /// Returns the handle of the runtime that is running on this thread, if there is one.
    ///
    /// # Examples
    /// ```
    /// use polyloop::Handle;
    ///
    /// assert!(Handle::current().is_none());
    /// # polyloop::run(async {
    /// assert!(Handle::current().is_some());
    /// # }).unwrap();
    /// ```
    pub fn current() -> Option<Handle> {
        current(|event_loop| Handle::new(event_loop.share_address()))
    }

    /// Spawns a task on the runtime from any thread.
    ///
    /// The returned handle can be awaited on any thread. It returns a [`JoinError`] that
    /// [is cancelled](JoinError::is_cancelled) if the runtime is dropped before the task has finished, or if 16,777,215
    /// tasks are alive.
    ///
    /// # References
    /// Python's `asyncio.run_coroutine_threadsafe`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::{Runtime, spawn_blocking};
    ///
    /// let runtime = Runtime::new()?;
    /// let handle = runtime.handle();
    /// // A plain thread runs a task on the loop and waits for its output.
    /// let thread = std::thread::spawn(move || {
    ///     handle.spawn(async { 6 * 7 }).join().unwrap()
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
        let spawned_at = Location::caller();
        // It is held twice on its way and twice by what polls it. What is small is cheaper to copy than to allocate
        // on one thread and free on another.
        if size_of::<F>() <= MOVED_BYTES {
            self.send_off(future, spawned_at)
        } else {
            self.send_off(Box::pin(future), spawned_at)
        }
    }

    fn send_off<F>(self, future: F, spawned_at: &'static Location<'static>) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (packet, sender) = Packet::new();
        let started = Arc::clone(&packet);
        let start = move || {
            current(|event_loop| {
                if !event_loop.has_room() {
                    quietly(|| drop(future));
                    return sender.send(Err(JoinError::refused()));
                }
                let work = async move {
                    let mut future = pin!(Some(future));
                    let outcome =
                        poll_fn(|cx| poll_outcome(future.as_mut(), |future| future.poll(cx))).await;
                    sender.send(outcome);
                };
                let task = event_loop.spawn(work, spawned_at);
                event_loop.detach(task);
                bind(&started, task);
            });
        };
        // If the loop has ended the command is dropped, and the sender in it reports that.
        mailbox::send_to(self.address, Command::Run(Box::new(start)));
        JoinHandle::of_packet(packet)
    }
}
