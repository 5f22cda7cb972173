//! Systems without a timer slack that a thread could set.

/// Does nothing.
pub(in crate::sys) fn reduce_timer_slack() {}

/// Does nothing.
pub(crate) fn restore() {}
