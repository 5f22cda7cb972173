//! Ending a server: on request, and however else `serve` ends.

use std::fmt;
use std::mem;
use std::rc::Rc;

use super::connection::Shared;

/// Shuts a server down gracefully. Made by [`Server::shutdown_handle`](crate::Server::shutdown_handle).
#[doc(alias = "graceful_shutdown")]
#[derive(Clone)]
pub struct ShutdownHandle {
    pub(super) shared: Rc<Shared>,
}

impl ShutdownHandle {
    /// Closes the listeners and notifies the handlers
    /// ([`Session::shutdown_requested`](crate::Session::shutdown_requested)).
    ///
    /// Open connections may continue until
    /// [`Server::shutdown_timeout`](crate::Server::shutdown_timeout) expires.
    pub fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.wake();
    }

    /// Returns the number of open connections.
    pub fn open_connections(&self) -> usize {
        self.shared.n_open()
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle")
            .field("is_shutdown_requested", &self.shared.shutdown.is_cancelled())
            .field("open_connections", &self.open_connections())
            .finish()
    }
}

/// Aborts the tasks of the remaining connections when `serve` returns, fails or is dropped.
pub(super) struct AbortConnections(pub(super) Rc<Shared>);

impl Drop for AbortConnections {
    fn drop(&mut self) {
        let tasks = mem::take(&mut *self.0.tasks.borrow_mut());
        for task in tasks.into_values() {
            task.abort();
        }
    }
}
