//! The error that stands in for a task's output.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Says why a task has no output: it was cancelled, or it panicked.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let task = polyloop_executor::spawn(async { panic!("boom") });
/// let error = task.await.map(|()| ()).unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.to_string(), "task panicked: boom");
/// # }).unwrap();
/// ```
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

    /// Returns the error in words, if it is a panic.
    pub(crate) fn panic_text(&self) -> Option<String> {
        self.is_panic().then(|| self.to_string())
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
