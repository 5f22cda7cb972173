//! The unsafe code of the crate: five things that safe Rust cannot express.

pub(crate) mod waker;

pub(crate) mod current;

pub(crate) mod project;

pub(crate) mod pair;

pub(crate) mod forward;
