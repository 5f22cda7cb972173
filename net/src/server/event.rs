//! What a server reports while it runs.

use std::any::Any;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Describes a failure that does not end the server. Passed to the callback of
/// [`Server::on_event`](crate::Server::on_event).
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerEvent<'a, A = SocketAddr> {
    /// A connection failed before it was accepted.
    AcceptFailed(&'a io::Error),
    /// File descriptors or memory are exhausted, and the server backs off. Reported once for each series of
    /// failed attempts.
    Exhausted(&'a io::Error),
    /// The handler of the client at this address returned an error.
    HandlerFailed(A, &'a io::Error),
    /// The handler of the client at this address panicked.
    HandlerPanicked(A),
    /// The connection of the client at this address was closed by
    /// [`Server::idle_timeout`](crate::Server::idle_timeout).
    ConnectionIdle(A),
}

impl<A: fmt::Debug> fmt::Display for ServerEvent<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerEvent::AcceptFailed(error) => write!(f, "a connection was not accepted: {error}"),
            ServerEvent::Exhausted(error) => {
                write!(f, "connections cannot be accepted for now: {error}")
            }
            ServerEvent::HandlerFailed(peer, error) => {
                write!(f, "the handler of {peer:?} failed: {error}")
            }
            ServerEvent::HandlerPanicked(peer) => write!(f, "the handler of {peer:?} panicked"),
            ServerEvent::ConnectionIdle(peer) => {
                write!(f, "the connection of {peer:?} exceeded the idle timeout")
            }
        }
    }
}

/// The callback for events.
pub(super) type OnEvent<A> = Rc<dyn Fn(ServerEvent<'_, A>)>;

/// Passes an event to the callback. A panic of the callback is caught: the panic hook has reported it.
pub(super) fn report<A>(on_event: &OnEvent<A>, event: ServerEvent<'_, A>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| on_event(event)));
    drop_payload(outcome.err());
}

/// Turns a panic on the way to one connection into an error of that connection.
pub(super) fn contain_panic<R>(step: &str, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        drop_payload(Some(payload));
        let message = format!("{step} a connection panicked");
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
    })
}

/// Drops the payload of a panic, whose destructor may panic in turn.
fn drop_payload(payload: Option<Box<dyn Any + Send>>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Its destructor may panic as well, and so on without end.
        mem::forget(again);
    }
}
