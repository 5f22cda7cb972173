//! A loop seen from other threads.

use std::future::poll_fn;
use std::mem::size_of;
use std::panic::Location;
use std::pin::pin;

use crate::catch::quietly;
use crate::event_loop::mailbox::{self, Address, Command};
use crate::join::join_handle::bind;
use crate::join::packet::Packet;
use crate::raw::current::current;
use crate::running::poll_outcome;
use crate::sync::Arc;
use crate::{JoinError, JoinHandle};

/// Reaches a loop from any thread: an address, free to copy and to keep.
///
/// It does not keep the loop alive. Waking a task from another thread needs no handle: every
/// [`Waker`](std::task::Waker) does that.
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

/// The size up to which the future of a task for another thread is moved, and not put into a box.
const MOVED_BYTES: usize = 128;

impl Handle {
    pub(crate) fn new(address: Address) -> Handle {
        Handle { address }
    }

    /// Returns the handle of the loop that runs on this thread, if one does.
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
    /// use polyloop::{Runtime, spawn_blocking};
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
