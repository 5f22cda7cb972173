//! Tasks as a person sees them, and reports of what goes wrong.

pub(crate) mod stuck;

pub(crate) mod notes;

pub(crate) mod debug;

pub(crate) mod lost_panic;

pub(crate) mod dump_signal;
