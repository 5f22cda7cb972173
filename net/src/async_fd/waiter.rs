//! Waiting for a descriptor, and the future of one operation.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use polyloop_executor::{Tried, forget_waiter, poll_source, with_reactor};
use polyloop_reactor::{Direction, Token, WaiterKey};

use super::AsyncFd;
use super::registrations::UNREGISTERED;

/// Waits for a direction of a descriptor, and leaves the list of waiters when dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a, T: AsFd + Send + Sync + 'static> {
    fd: &'a AsyncFd<T>,
    direction: Direction,
    /// The registration polled last.
    registration: Token,
    /// The entry in its list of waiters.
    key: Option<WaiterKey>,
}

impl<'a, T: AsFd + Send + Sync + 'static> Waiter<'a, T> {
    pub(crate) fn new(fd: &'a AsyncFd<T>, direction: Direction) -> Waiter<'a, T> {
        Waiter { fd, direction, registration: UNREGISTERED, key: None }
    }

    /// Polls for an operation: see [`AsyncFd::async_io`].
    pub(crate) fn poll_io<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.poll_attempt(cx, |io| Ok((operation(io)?, Tried::Done)))
    }

    /// Polls for an operation: see [`AsyncFd::async_attempt`].
    #[inline]
    pub(crate) fn poll_attempt<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<(R, Tried)>,
    ) -> Poll<io::Result<R>> {
        loop {
            let is_registered = ready!(self.poll_registration(cx))?;
            match self.fd.try_attempt(self.direction, &mut operation) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            if !is_registered {
                let token = self.fd.register()?;
                with_reactor(|reactor| reactor.clear_ready(token, self.direction))?;
            }
            // The readiness is cleared, so the next iteration waits.
        }
    }

    /// Performs an operation without waiting: see [`AsyncFd::try_io`].
    pub(crate) fn try_now<R>(&self, operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.fd.try_io(self.direction, operation)
    }

    /// Polls for readiness: see [`AsyncFd::ready`].
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !ready!(self.poll_registration(cx))? {
            self.fd.register()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Leaves the list of waiters, on whichever loop it is.
    #[cold]
    #[inline(never)]
    fn leave(&mut self) {
        if let Some(key) = self.key.take() {
            forget_waiter(self.registration, self.direction, key);
        }
    }

    /// Changes the registration, and leaves the list of waiters of the previous one.
    #[inline]
    fn set_registration(&mut self, registration: Token) {
        if self.key.is_some() {
            self.leave();
        }
        self.registration = registration;
    }

    /// Polls until the descriptor may be ready. Returns false if it is not registered with the running loop, so that
    /// nothing is known about it.
    #[inline]
    fn poll_registration(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let latest = self.fd.shared.registrations.latest();
            if self.registration != latest {
                self.set_registration(latest);
            }
            let is_registered = ready!(poll_source(latest, self.direction, &mut self.key, cx))?;
            if is_registered || !self.fd.find_registration()? {
                return Poll::Ready(Ok(is_registered));
            }
        }
    }
}

impl<T: AsFd + Send + Sync + 'static> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        if self.key.is_some() {
            self.leave();
        }
    }
}

/// The future of [`AsyncFd::async_attempt`].
pub(super) struct Attempt<'a, T: AsFd + Send + Sync + 'static, F> {
    pub(super) waiter: Waiter<'a, T>,
    pub(super) operation: F,
}

// The operation is only ever called, never pinned.
impl<T: AsFd + Send + Sync + 'static, F> Unpin for Attempt<'_, T, F> {}

impl<T, F, R> Future for Attempt<'_, T, F>
where
    T: AsFd + Send + Sync + 'static,
    F: FnMut(&T) -> io::Result<(R, Tried)>,
{
    type Output = io::Result<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let Attempt { waiter, operation } = &mut *self;
        waiter.poll_attempt(cx, operation)
    }
}
