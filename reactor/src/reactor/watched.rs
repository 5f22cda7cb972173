//! [`Watched`]: an object that a reactor can watch.

use std::os::fd::AsFd;

use crate::Token;

/// An object with a descriptor that a reactor can watch.
///
/// The reactor shares ownership of the object while the descriptor is registered.
pub trait Watched: AsFd + Send + Sync {
    /// Returns whether `token` is the registration that the object has used last.
    ///
    /// A registration is dropped if it reports an event that no task waits for, and another one has been
    /// used since.
    fn is_latest(&self, token: Token) -> bool;

    /// Returns whether an operation that transfers less than requested proves that the next one
    /// would block: see [`Kind::short_is_proof`](crate::socket::Kind::short_is_proof).
    ///
    /// The reactor calls this once, when it registers the object.
    fn short_is_proof(&self) -> bool {
        true
    }
}
