//! Joining: how the output of a task gets to its handle.

pub(crate) mod join_handle;

mod park;

pub(crate) mod requests;

pub(crate) mod join_error;

pub(crate) mod packet;

pub(crate) mod abort_on_drop;

pub(crate) mod orphans;

pub(crate) mod deep_drop;
