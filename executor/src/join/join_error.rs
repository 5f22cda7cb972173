//! [`JoinError`]: why a task has no output.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::catch::Payload;
use crate::inspect::lost_panic::{LostPanic, Origin};
use crate::tasks::numbers::NO_ROOM;

/// The error of a task without an output: it was cancelled, or it panicked.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let task = polyloop::spawn(async { panic!("boom") });
/// let error = task.await.map(|()| ()).unwrap_err();
/// assert!(error.is_panic());
/// assert_eq!(error.to_string(), "task panicked: boom");
/// # }).unwrap();
/// ```
pub struct JoinError {
    /// `None` if cancelled. Boxed, so that `Result<(), JoinError>` is one word.
    cause: Option<Box<Cause>>,
}

/// A reason other than cancellation.
enum Cause {
    Panic(Panic),
    /// The loop's task table was full.
    Refused,
}

struct Panic {
    /// In a mutex, so that the error is `Sync`.
    payload: Mutex<Payload>,
    /// In debug mode, until the error is returned to a caller.
    lost: Option<LostPanic>,
}

impl JoinError {
    pub(crate) fn cancelled() -> JoinError {
        JoinError { cause: None }
    }

    /// Creates the error of a panic in `origin`.
    ///
    /// Pass it through [`given`](crate::join::join_error::given) when it is returned to a caller.
    #[cold]
    pub(crate) fn panicked(payload: Payload, origin: Option<Origin>) -> JoinError {
        let panic = Panic { payload: Mutex::new(payload), lost: None };
        let mut error = JoinError { cause: Some(Box::new(Cause::Panic(panic))) };
        error.set_origin(origin);
        error
    }

    /// Reports the panic if the error is dropped before it is returned to a caller.
    #[cold]
    pub(crate) fn set_origin(&mut self, origin: Option<Origin>) {
        if !self.is_panic() {
            return;
        }
        let lost = origin.map(|origin| LostPanic::new(origin, self.to_string()));
        if let Some(Cause::Panic(panic)) = self.cause.as_deref_mut() {
            panic.lost = lost;
        }
    }

    /// Takes the report that would be made if the error were dropped before it is returned to a caller.
    fn take_lost(&mut self) -> Option<LostPanic> {
        match self.cause.as_deref_mut() {
            Some(Cause::Panic(panic)) => panic.lost.take(),
            Some(Cause::Refused) | None => None,
        }
    }

    /// Records that the error is returned to a caller.
    #[inline]
    pub(crate) fn note_given(&mut self) {
        if self.cause.is_some()
            && let Some(lost) = self.take_lost()
        {
            lost.dismiss();
        }
    }

    /// Reports the panic as lost, although a caller may still receive it.
    pub(crate) fn report_now(&mut self) {
        drop(self.take_lost());
    }

    pub(crate) fn refused() -> JoinError {
        JoinError { cause: Some(Box::new(Cause::Refused)) }
    }

    /// Returns whether the task was cancelled: it was aborted, its runtime was dropped, or the runtime had the maximum
    /// number of tasks. The error's message distinguishes these.
    pub fn is_cancelled(&self) -> bool {
        !self.is_panic()
    }

    /// Returns whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.cause.as_deref(), Some(Cause::Panic(_)))
    }

    /// Returns the payload of the task's panic, for [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Errors
    /// Returns `self` if the task was cancelled.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send + 'static>, JoinError> {
        match self.cause.map(|cause| *cause) {
            Some(Cause::Panic(panic)) => {
                Ok(panic.payload.into_inner().unwrap_or_else(PoisonError::into_inner))
            }
            cause => Err(JoinError { cause: cause.map(Box::new) }),
        }
    }

    /// Calls `f` with the panic's message, if it has one.
    fn with_message<R>(&self, f: impl FnOnce(Option<&str>) -> R) -> Option<R> {
        let Some(Cause::Panic(panic)) = self.cause.as_deref() else { return None };
        let payload = panic.payload.lock().unwrap_or_else(PoisonError::into_inner);
        let message = payload.downcast_ref::<&'static str>().copied();
        Some(f(message.or_else(|| payload.downcast_ref::<String>().map(String::as_str))))
    }
}

/// Records that an outcome is returned to a caller, so that its panic is not lost.
#[inline]
pub(crate) fn given<T>(mut outcome: Result<T, JoinError>) -> Result<T, JoinError> {
    if let Err(error) = &mut outcome {
        error.note_given();
    }
    outcome
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = self.with_message(|message| match message {
            Some(message) => write!(f, "task panicked: {message}"),
            None => f.write_str("task panicked"),
        });
        panic.unwrap_or_else(|| match self.cause {
            Some(_) => write!(f, "task was not started: {NO_ROOM}"),
            None => f.write_str("task was cancelled"),
        })
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let panic = self.with_message(|message| match message {
            Some(message) => write!(f, "JoinError::Panicked({message:?})"),
            None => f.write_str("JoinError::Panicked(..)"),
        });
        panic.unwrap_or_else(|| match self.cause {
            Some(_) => f.write_str("JoinError::Refused"),
            None => f.write_str("JoinError::Cancelled"),
        })
    }
}

impl Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> io::Error {
        io::Error::other(error)
    }
}
