//! What a server reports while it runs.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::panics::drop_payload;

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
