//! Running a future and spawning tasks, without a [`Runtime`] in hand.

use std::io;
use std::panic::Location;

use crate::event_loop::EventLoop;
use crate::event_loop::tasks::refuse;
use crate::raw::current::current;
use crate::runtime::no_runtime::no_runtime;
use crate::{JoinHandle, Runtime};

/// Creates a runtime, runs `future` on it to completion, and returns the future's output.
///
/// The backend is the one named by the environment variable `POLYLOOP_BACKEND`, or else the best that the system
/// supports. When `future` completes, the remaining tasks are cancelled, and the runtime waits up to one second for
/// blocking work. [`Builder`](crate::Builder) changes these settings.
///
/// # Errors
/// `ResourceBusy` if a runtime is already running on this thread: await or spawn the future instead. Otherwise
/// returns the errors of [`Builder::build`](crate::Builder::build) and of the selector.
///
/// # Panics
/// Panics if `future` panics. A panic in any other task ends only that task.
///
/// # References
/// Python's `asyncio.run`.
///
/// # Examples
/// ```
/// let answer = polyloop::run(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    check_not_nested("run")?;
    Runtime::new()?.block_on(future)
}

/// Spawns a task on the current thread's runtime, and returns a [`JoinHandle`] for its output.
///
/// The task is first polled after the current task yields. It runs whether or not the handle is awaited, and
/// dropping the handle detaches the task. The future need not be `Send`, because it stays on this thread.
///
/// # Panics
/// Panics if no runtime is running on this thread: use [`Runtime::spawn`] or
/// [`Handle::spawn`](crate::Handle::spawn) there. Panics if 16,777,215 tasks are alive.
///
/// # References
/// Python's `asyncio.create_task`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let task = polyloop::spawn(async { "done" });
/// assert_eq!(task.await.unwrap(), "done");
/// # }).unwrap();
/// ```
#[doc(alias = "create_task")]
#[doc(alias = "shield")]
#[doc(alias = "spawn_local")]
#[inline]
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_at(Location::caller(), future)
}

/// Spawns a task whose location is `spawned_at`.
#[inline]
#[track_caller]
pub(crate) fn spawn_at<F>(
    spawned_at: &'static Location<'static>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    match current(|event_loop| event_loop.spawn(future, spawned_at)) {
        Some(id) => JoinHandle::of_task(id),
        None => no_runtime("`spawn` was called"),
    }
}

/// Returns `future` if it can be spawned.
///
/// For callers that change their state before they spawn, or hold a borrow meanwhile.
///
/// # Panics
/// Panics if the task table is full, after the future has been dropped.
pub(crate) fn with_room<F>(spawned_at: &'static Location<'static>, future: F) -> F {
    if current(EventLoop::has_room) == Some(false) {
        refuse(future, spawned_at);
    }
    future
}

#[inline]
pub(super) fn check_not_nested(name: &str) -> io::Result<()> {
    match current(|event_loop| event_loop.is_running()) {
        None => Ok(()),
        Some(true) => Err(nested(name)),
        Some(false) => Err(within_enter(name)),
    }
}

#[cold]
pub(super) fn nested(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("`{name}` was called inside a running loop: await or spawn the future instead"),
    )
}

#[cold]
fn within_enter(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("`{name}` was called inside `Runtime::enter`: call it when `enter` has returned"),
    )
}
