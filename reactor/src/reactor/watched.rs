//! What a reactor watches.

use std::os::fd::AsFd;

use crate::Token;

/// Owns something with a descriptor that a reactor can watch.
///
/// The reactor shares the ownership for as long as the descriptor is registered.
pub trait Watched: AsFd + Send + Sync {
    /// Reports whether `token` is the registration that this object used last.
    ///
    /// One that was used on another loop since, and that nobody waits for here, is dropped when
    /// it reports.
    fn is_latest(&self, token: Token) -> bool;

    /// Reports whether an operation that moves less than it was asked to proves that the next one
    /// would block: see [`Kind::short_is_proof`](crate::socket::Kind::short_is_proof).
    ///
    /// Asked once, when the object is registered.
    fn short_is_proof(&self) -> bool {
        true
    }
}
