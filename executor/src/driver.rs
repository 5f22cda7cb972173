//! Extension points for authors of I/O types: access to the running loop's reactor.

use std::io;
use std::task::{Context, Poll, Waker};

use polyloop_reactor::{Direction, Outlook, Reactor, Token, WaiterKey};

use crate::event_loop::local_loops::if_local;
use crate::event_loop::mailbox::{self, Command};
use crate::raw::current::current;
use crate::runtime::no_runtime::NO_RUNTIME;
use crate::tasks::wakers::{clone_if_own, drop_of};

/// Calls `f` with the reactor of the loop that runs on this thread.
///
/// `f` must not run foreign code: it must not wake, clone or drop wakers.
///
/// # Errors
/// Returns an error outside a loop.
///
/// # Panics
/// Panics if `f` calls this function again, polls, wakes, or otherwise uses the loop's reactor, which is borrowed while
/// `f` runs.
#[inline]
pub fn with_reactor<R>(f: impl FnOnce(&mut Reactor) -> R) -> io::Result<R> {
    current(|event_loop| event_loop.with_reactor(f)).ok_or_else(no_loop)
}

#[cold]
fn no_loop() -> io::Error {
    io::Error::other(NO_RUNTIME)
}

/// Polls until an operation in `direction` may succeed: the first step of every I/O future.
///
/// Returns `true` if the source is registered with the running loop and is not known to block, and `false` if it is not
/// registered here, so that its readiness is unknown. Takes one operation from the task's budget.
///
/// `key` identifies the task's waker in the source. It is kept from poll to poll, and while it is `Some`, it must be passed
/// to [`forget_waiter`] when the future is dropped or stops waiting, so that other waiters of the source are woken.
///
/// # Errors
/// Returns an error outside a loop, and the selector's error if interest has to be added.
#[inline]
pub fn poll_source(
    token: Token,
    direction: Direction,
    key: &mut Option<WaiterKey>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    // Cloning a waker of this crate runs no foreign code, so one borrow is enough.
    let mut waker = clone_if_own(cx.waker());
    let is_ours = waker.is_some();
    let outlook = current(|event_loop| {
        if !event_loop.proceed() {
            return Ok(None);
        }
        event_loop
            .with_reactor(|reactor| reactor.poll_ready(token, direction, key, &mut waker))
            .map(Some)
    });
    // The replaced waker may be foreign.
    drop_of(waker);
    match outlook.unwrap_or_else(|| Err(no_loop()))? {
        None => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Some(Outlook::Unknown) => Poll::Ready(Ok(false)),
        Some(Outlook::Ready) => Poll::Ready(Ok(true)),
        Some(Outlook::Blocks) if is_ours => Poll::Pending,
        Some(Outlook::Blocks) => wait_foreign(token, direction, key, cx.waker()),
    }
}

/// Leaves a foreign waker.
#[cold]
fn wait_foreign(
    token: Token,
    direction: Direction,
    key: &mut Option<WaiterKey>,
    waker: &Waker,
) -> Poll<io::Result<bool>> {
    // Cloned before the reactor is borrowed, and dropped after.
    let mut waker = Some(waker.clone());
    *key = Some(with_reactor(|reactor| reactor.wait(token, direction, *key, &mut waker))??);
    Poll::Pending
}

/// The result of an I/O operation, as far as readiness is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It succeeded, or failed with an error other than `WouldBlock`.
    Done,
    /// It would have blocked.
    WouldBlock,
    /// It transferred less than requested, which proves that the next one would block; see
    /// [`Reactor::note_short`].
    Short,
}

/// Records an operation that was tried: counts it in [`Metrics`](crate::Metrics), and clears the readiness of a source
/// that would block. Outside a loop it does nothing.
#[inline]
pub fn note_io(token: Token, direction: Direction, tried: Tried) {
    current(|event_loop| {
        event_loop.count_io_call();
        if tried != Tried::Done {
            let is_short = tried == Tried::Short;
            event_loop.with_reactor(|reactor| reactor.note_blocked(token, direction, is_short));
        }
    });
}

/// Returns the number of the loop that runs on this thread, which is the owner in its tokens.
#[inline]
pub fn current_loop() -> Option<u16> {
    current(|event_loop| event_loop.number())
}

/// Removes the waiter that [`poll_source`] has left in `key`, on any loop that the source is registered with.
///
/// A loop on another thread does so in its next turn.
pub fn forget_waiter(token: Token, direction: Direction, key: WaiterKey) {
    if if_local(token.owner(), |event_loop| event_loop.forget(token, direction, key)).is_none() {
        mailbox::send(token.owner(), Command::Forget(token, direction, key));
    }
}

/// Unregisters a source from any loop.
///
/// A loop on another thread does so in its next turn, and the descriptor stays open until then. A panic of the owner's
/// destructor propagates to the caller on this thread, and is caught on another.
pub fn release_source(token: Token) {
    if if_local(token.owner(), |event_loop| event_loop.release(token)).is_none() {
        mailbox::send(token.owner(), Command::Release(token));
    }
}
