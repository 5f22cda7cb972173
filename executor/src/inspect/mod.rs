//! Inspection of tasks, and reports of debug mode.

pub(crate) mod stuck;

pub(crate) mod notes;

pub(crate) mod debug;

pub(crate) mod lost_panic;

pub(crate) mod dump_signal;
