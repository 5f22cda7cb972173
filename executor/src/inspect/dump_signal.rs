//! Printing the tree of tasks on a signal.

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use polyloop_reactor::{Direction, SignalFd, Token, Watched};

use crate::{Tried, note_io, poll_source, release_source, task, with_reactor};

/// A signal that is registered with one loop.
struct Listener(SignalFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Listener {
    fn is_latest(&self, _: Token) -> bool {
        true
    }
}

/// A registration that ends with its owner.
struct Registered(Token);

impl Drop for Registered {
    fn drop(&mut self) {
        release_source(self.0);
    }
}

/// Writes the tree of tasks to standard error each time the signal arrives.
pub(crate) async fn dump_on(signal: SignalFd) -> io::Result<()> {
    let listener = Arc::new(Listener(signal));
    let source = Registered(with_reactor(|reactor| reactor.register(listener.clone()))??);
    let mut key = None;
    loop {
        poll_fn(|cx| poll_source(source.0, Direction::Read, &mut key, cx)).await?;
        if listener.0.take()? {
            note_io(source.0, Direction::Read, Tried::Done);
            // Standard error may be a closed pipe, where `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "polyloop:\n{}", task::dump());
        } else {
            note_io(source.0, Direction::Read, Tried::WouldBlock);
        }
    }
}
