//! What is lost when a future is dropped: nothing, or what its caller can see.
//!
//! [`dropper`] is the harness. The other modules hand every asynchronous function of the library
//! to it, and [`complete`] checks that none is missing.

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
