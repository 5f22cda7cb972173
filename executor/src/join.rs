//! The handle by which a task's output is awaited, and the error that stands in for one.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use polyloop_reactor::Token;

use crate::budget::poll_proceed;
use crate::mailbox::{self, Mail};
use crate::packet::Packet;
use crate::sync::Arc;
use crate::tasks::Join;
use crate::waker::{clone_of, current, drop_of};

/// Awaits the output of a task.
///
/// Dropping it detaches the task, which goes on. [`abort`](JoinHandle::abort) ends it.
///
/// A handle from [`spawn`](crate::spawn) is awaited on the loop that it came from; one from
/// [`Handle::spawn`](crate::Handle::spawn) or [`spawn_blocking`](crate::spawn_blocking) anywhere,
/// even under another executor.
///
/// # Errors
/// The output is a [`JoinError`] if the task panicked or was aborted, or its loop ended first.
///
/// # Panics
/// If a handle from `spawn` is polled where its loop does not run, or any handle is polled again
/// after it was ready.
///
/// # Cancel safety
/// The output stays with the task until the handle returns it: awaiting `&mut handle` and
/// dropping that future loses nothing.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let task = polyloop_executor::spawn(async { 6 * 7 });
/// assert_eq!(task.await.unwrap(), 42);
/// # }).unwrap();
/// ```
pub struct JoinHandle<T> {
    repr: Repr<T>,
}

enum Repr<T> {
    /// The output is in the task's slot, on the loop that the number names.
    Task(Token),
    /// The output crosses threads.
    Packet(Arc<Packet<T>>),
    /// The output was returned.
    Taken,
}

impl<T> JoinHandle<T> {
    pub(crate) fn of_task(id: Token) -> JoinHandle<T> {
        JoinHandle { repr: Repr::Task(id) }
    }

    pub(crate) fn of_packet(packet: Arc<Packet<T>>) -> JoinHandle<T> {
        JoinHandle { repr: Repr::Packet(packet) }
    }

    /// Ends the task: its future is dropped, at once if it is not being polled.
    ///
    /// The output is then a [`JoinError`] that [is cancelled](JoinError::is_cancelled). A task
    /// that is over keeps its output. Blocking work that has begun cannot be ended.
    /// From another thread the loop does it in its next turn.
    pub fn abort(&self) {
        match &self.repr {
            Repr::Task(id) => abort(*id),
            Repr::Packet(packet) => packet.abort(),
            Repr::Taken => {}
        }
    }
}

/// Aborts the task that `id` names, on whatever thread it lives.
pub(crate) fn abort(id: Token) {
    let here = current(|event_loop| {
        let home = event_loop.number() == id.owner();
        if home {
            event_loop.abort(id);
        }
        home
    });
    if here != Some(true) {
        mailbox::send(id.owner(), Mail::Abort(id));
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let output = match &self.repr {
            Repr::Task(id) => ready!(poll_task(*id, cx)),
            Repr::Packet(packet) => {
                ready!(poll_proceed(cx));
                ready!(packet.poll_take(cx))
            }
            Repr::Taken => panic!("a join handle was polled after it was ready"),
        };
        self.repr = Repr::Taken;
        Poll::Ready(output)
    }
}

fn poll_task<T: 'static>(id: Token, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
    match ready!(poll_join(id, cx)) {
        Join::Finished => {
            let mut output: Option<Result<T, JoinError>> = None;
            current(|event_loop| event_loop.tasks.borrow_mut().take_output(id, &mut output));
            Poll::Ready(output.unwrap_or_else(|| Err(JoinError::cancelled())))
        }
        Join::Running | Join::Gone => Poll::Ready(Err(JoinError::cancelled())),
    }
}

/// Waits until the task is not running any more.
fn poll_join(id: Token, cx: &Context<'_>) -> Poll<Join> {
    let polled = current(|event_loop| {
        if event_loop.number() != id.owner() {
            return None;
        }
        if !event_loop.proceed() {
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        let join = event_loop.tasks.borrow().look_up(id);
        if join != Join::Running {
            return Some(Poll::Ready(join));
        }
        // Cloned before the borrow, and what is left of it dropped after: a foreign waker may do
        // anything, even end the task.
        let mut waker = Some(clone_of(cx.waker()));
        let join = event_loop.tasks.borrow_mut().join(id, &mut waker);
        drop_of(waker);
        Some(if join == Join::Running { Poll::Pending } else { Poll::Ready(join) })
    });
    polled.flatten().expect(
        "a join handle from `spawn` was awaited where its loop does not run; \
         `Handle::spawn` gives one that can be awaited anywhere",
    )
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Repr::Task(id) = self.repr else { return };
        let here = current(|event_loop| {
            let home = event_loop.number() == id.owner();
            if home {
                event_loop.detach(id);
            }
            home
        });
        if here != Some(true) {
            mailbox::send(id.owner(), Mail::Detach(id));
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state: &dyn fmt::Debug = match &self.repr {
            Repr::Task(id) => id,
            Repr::Packet(_) => &"across threads",
            Repr::Taken => &"taken",
        };
        f.debug_tuple("JoinHandle").field(state).finish()
    }
}

/// Says why a task has no output: it was cancelled, or it panicked.
pub struct JoinError {
    /// The panic's payload, in a mutex for the sake of `Sync`; none if cancelled.
    panic: Option<Box<Mutex<Payload>>>,
}

type Payload = Box<dyn Any + Send + 'static>;

impl JoinError {
    pub(crate) fn cancelled() -> JoinError {
        JoinError { panic: None }
    }

    pub(crate) fn panicked(payload: Payload) -> JoinError {
        JoinError { panic: Some(Box::new(Mutex::new(payload))) }
    }

    /// Reports whether the task was aborted, or its loop ended before it did.
    pub fn is_cancelled(&self) -> bool {
        self.panic.is_none()
    }

    /// Reports whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic.is_some()
    }

    /// Returns what the task panicked with, for
    /// [`resume_unwind`](std::panic::resume_unwind), or the error itself if it was cancelled.
    ///
    /// # Errors
    /// The error itself, if the task was cancelled.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.panic {
            Some(payload) => Ok(payload.into_inner().unwrap_or_else(PoisonError::into_inner)),
            None => Err(self),
        }
    }

    /// Calls `f` with the panic's message, where it has one.
    fn with_message<R>(&self, f: impl FnOnce(Option<&str>) -> R) -> Option<R> {
        let payload = self.panic.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let message = payload.downcast_ref::<&'static str>().copied();
        Some(f(message.or_else(|| payload.downcast_ref::<String>().map(String::as_str))))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = self.with_message(|message| match message {
            Some(message) => write!(f, "task panicked: {message}"),
            None => f.write_str("task panicked"),
        });
        panic.unwrap_or_else(|| f.write_str("task was cancelled"))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = self.with_message(|message| match message {
            Some(message) => write!(f, "JoinError::Panicked({message:?})"),
            None => f.write_str("JoinError::Panicked(..)"),
        });
        panic.unwrap_or_else(|| f.write_str("JoinError::Cancelled"))
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}
