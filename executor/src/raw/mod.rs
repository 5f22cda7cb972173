//! The unsafe code of the crate: four things that the safe language has no words for.

pub(crate) mod waker;

pub(crate) mod current;

pub(crate) mod project;

pub(crate) mod forward;
