//! An accept loop as a component.
//!
//! A [`Server`] owns its listeners. `serve` runs the accept loop, which spawns a task for each connection; after a
//! shutdown it waits for these tasks, and aborts those that exceed the shutdown timeout.

mod builder;

mod serve;

mod accept_loop;

mod exhaustion;

mod connection;

mod idle;

mod session;

mod shutdown;

mod event;

mod panics;

mod report;

#[cfg(all(test, not(loom)))]
mod tests;

pub use builder::Server;
pub use event::ServerEvent;
pub use report::ServerReport;
pub use session::Session;
pub use shutdown::ShutdownHandle;
