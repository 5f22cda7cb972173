//! Systems without a timer slack that a thread could set.

/// Does nothing: waits are as punctual as they can be.
pub(super) fn be_punctual() {}
