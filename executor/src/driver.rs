//! The seam for those who write I/O types: the running loop's reactor.

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
/// `f` must not run foreign code: no waker may be woken, cloned or dropped in it.
///
/// # Errors
/// Outside a loop.
///
/// # Panics
/// If it is called again from within `f`, or if `f` polls, wakes or does anything else that needs
/// the loop's reactor, which is borrowed for as long as `f` runs.
#[inline]
pub fn with_reactor<R>(f: impl FnOnce(&mut Reactor) -> R) -> io::Result<R> {
    current(|event_loop| event_loop.with_reactor(f)).ok_or_else(no_loop)
}

#[cold]
fn no_loop() -> io::Error {
    io::Error::other(NO_RUNTIME)
}

/// Polls until an operation in `direction` is worth trying: the beginning of every I/O future.
///
/// True if the source is registered with the running loop and was not found to block; false if it
/// is not registered here, so that nothing is known of it. Takes one operation from the task's
/// budget.
///
/// `key` names the place of the task's waker. It is kept from poll to poll, and while it is not
/// none, it has to be handed to [`forget_waiter`] when the future is dropped or stops waiting: where
/// several wait for the same, that is what lets the others have their turn.
///
/// # Errors
/// Outside a loop; what the selector says when interest has to be added.
#[inline]
pub fn poll_source(
    token: Token,
    direction: Direction,
    key: &mut Option<WaiterKey>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    // Cloning one of ours runs nothing foreign, so that one borrow is enough.
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
    // What it replaced may be foreign.
    drop_of(waker);
    match outlook.unwrap_or_else(|| Err(no_loop()))? {
        None => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        Some(Outlook::Unknown) => Poll::Ready(Ok(false)),
        Some(Outlook::Ready) => Poll::Ready(Ok(true)),
        Some(Outlook::Blocks) if is_ours => Poll::Pending,
        Some(Outlook::Blocks) => wait_from_afar(token, direction, key, cx.waker()),
    }
}

/// Leaves a waker that is not ours.
#[cold]
fn wait_from_afar(
    token: Token,
    direction: Direction,
    key: &mut Option<WaiterKey>,
    waker: &Waker,
) -> Poll<io::Result<bool>> {
    // Cloned before the reactor is borrowed, and what is left of it dropped after.
    let mut waker = Some(waker.clone());
    *key = Some(with_reactor(|reactor| reactor.wait(token, direction, *key, &mut waker))??);
    Poll::Pending
}

/// Says what an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It succeeded, or failed for good.
    Done,
    /// It would have blocked.
    WouldBlock,
    /// It moved less than it was asked to, which proves that the next one would block; see
    /// [`Reactor::note_short`].
    Short,
}

/// Counts an operation that was tried, for [`Metrics::n_io_calls`](crate::Metrics), and forgets
/// the readiness of a source that would block now. Outside a loop it does nothing.
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

/// Returns the number of the loop that runs on this thread, which is the owner of its tokens.
#[inline]
pub fn current_loop() -> Option<u16> {
    current(|event_loop| event_loop.number())
}

/// Takes back the place of a waiter that [`poll_source`] has left in `key`, on whatever loop the
/// source is registered.
///
/// Another loop does it in its next turn.
pub fn forget_waiter(token: Token, direction: Direction, key: WaiterKey) {
    if if_local(token.owner(), |event_loop| event_loop.forget(token, direction, key)).is_none() {
        mailbox::send(token.owner(), Command::Forget(token, direction, key));
    }
}

/// Stops watching a source, on whatever loop it is registered.
///
/// Another loop does it in its next turn, and the descriptor stays open until then. A panic of the
/// owner's destructor goes to the caller here; there, it ends nothing.
pub fn release_source(token: Token) {
    if if_local(token.owner(), |event_loop| event_loop.release(token)).is_none() {
        mailbox::send(token.owner(), Command::Release(token));
    }
}
