//! A dropped future loses nothing, or only what its caller can see.
//!
//! [`dropper`] is the harness. The other modules pass every asynchronous function of the library to it, and
//! [`complete`] checks that none is missing.

#[path = "../common/mod.rs"]
mod common;

mod dropper;

mod tasks;

mod channels;

mod streams;

mod sockets;

mod bytes;

mod services;

mod complete;

mod leftovers;
