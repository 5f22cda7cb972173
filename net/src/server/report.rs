//! The counts that `Server::serve` returns.

/// Counts the connections of a [`Server`](crate::Server) by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// Connections whose handler returned `Ok`.
    pub served: u64,
    /// Connections whose handler returned an error or panicked.
    pub failed: u64,
    /// Connections closed by [`Server::idle_timeout`](crate::Server::idle_timeout).
    pub idle: u64,
    /// Connections closed unserved because file descriptors or memory were exhausted for longer than
    /// [`Server::exhaustion_timeout`](crate::Server::exhaustion_timeout).
    pub refused: u64,
    /// Connections aborted because they exceeded
    /// [`Server::shutdown_timeout`](crate::Server::shutdown_timeout).
    pub aborted: u64,
}
