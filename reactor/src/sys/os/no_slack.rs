//! Systems without a timer slack that a thread could set.

/// Does nothing: waits are as punctual as they can be.
pub(in crate::sys) fn reduce_timer_slack() {}

/// Does nothing, because nothing was changed.
pub(crate) fn restore() {}
