//! The unsafe code of the crate, all of it.

pub(crate) mod waker;
