//! The unsafe code of the crate: four things that safe Rust cannot express.

pub(crate) mod waker;

pub(crate) mod current;

pub(crate) mod project;

pub(crate) mod forward;
