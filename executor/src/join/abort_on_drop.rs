//! [`AbortOnDrop`]: a join handle that aborts its task when it is dropped.

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::{JoinError, JoinHandle};

/// Awaits the output of a task, and aborts the task when it is dropped.
///
/// Returned by [`JoinHandle::abort_on_drop`].
///
/// # Cancel safety
/// As for [`JoinHandle`]: await `&mut handle`, because dropping the handle itself aborts the task.
#[derive(Debug)]
#[must_use = "dropping it aborts the task"]
pub struct AbortOnDrop<T> {
    /// `None` after `into_handle`.
    handle: Option<JoinHandle<T>>,
}

impl<T> AbortOnDrop<T> {
    pub(crate) fn new(handle: JoinHandle<T>) -> AbortOnDrop<T> {
        AbortOnDrop { handle: Some(handle) }
    }

    /// Converts it back into a [`JoinHandle`], which detaches the task when it is dropped.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let guarded = polyloop::spawn(async { 7 }).abort_on_drop();
    /// let handle = guarded.into_handle();
    /// assert_eq!(handle.await.unwrap(), 7);
    /// # }).unwrap();
    /// ```
    pub fn into_handle(mut self) -> JoinHandle<T> {
        self.handle.take().expect(HELD)
    }
}

/// Why the handle exists whenever it is used.
const HELD: &str = "the handle is there until the value is gone";

impl<T> Deref for AbortOnDrop<T> {
    type Target = JoinHandle<T>;

    fn deref(&self) -> &JoinHandle<T> {
        self.handle.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for AbortOnDrop<T> {
    fn deref_mut(&mut self) -> &mut JoinHandle<T> {
        self.handle.as_mut().expect(HELD)
    }
}

impl<T: 'static> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}
