//! The parts of `std::sync` that models replace.
//!
//! Built with `--cfg loom`, what crosses threads uses loom's types instead, so that the models
//! check the code that runs and not a copy of it.

#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Mutex};

#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Mutex};
