//! The seam for those who write I/O types: the running loop's reactor.

use std::io;

use polyloop_reactor::{Reactor, Token};

use crate::mailbox::{self, Mail};
use crate::waker::current;

/// Calls `f` with the reactor of the loop that runs on this thread.
///
/// `f` must not run foreign code: no waker may be woken, cloned or dropped in it.
///
/// # Errors
/// Outside a loop.
pub fn with_reactor<R>(f: impl FnOnce(&mut Reactor) -> R) -> io::Result<R> {
    current(|event_loop| f(&mut event_loop.reactor.borrow_mut())).ok_or_else(|| {
        io::Error::other("no polyloop loop runs on this thread: use `polyloop::run` or `block_on`")
    })
}

/// Returns the number of the loop that runs on this thread, which is the owner of its tokens.
#[inline]
pub fn current_loop() -> Option<u16> {
    current(|event_loop| event_loop.number())
}

/// Stops watching a source, on whatever loop it is registered.
///
/// Another loop does it in its next turn, and the descriptor stays open until then.
pub fn release_source(token: Token) {
    let here = current(|event_loop| {
        let home = event_loop.number() == token.owner();
        if home {
            event_loop.release(token);
        }
        home
    });
    if here != Some(true) {
        mailbox::send(token.owner(), Mail::Release(token));
    }
}

/// Counts a system call that moved data, for [`Metrics::n_io_calls`](crate::Metrics).
#[inline]
pub fn count_io_call() {
    current(|event_loop| event_loop.n_io_calls.set(event_loop.n_io_calls.get() + 1));
}
