//! What a loop has counted.

/// Counts what a loop holds and what it has done since it was made.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let before = polyloop::runtime::metrics().n_polls;
/// polyloop::yield_now().await;
/// assert!(polyloop::runtime::metrics().n_polls > before);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Tasks that have not ended, or whose output nobody has taken yet.
    pub n_tasks: usize,
    /// Timers that are armed.
    pub n_timers: usize,
    /// Descriptors that are registered.
    pub n_sources: usize,
    /// Polls of tasks and of the main future.
    pub n_polls: u64,
    /// System calls that waited or looked for events.
    pub n_waits: u64,
    /// System calls that changed what the selector watches.
    pub n_control_calls: u64,
    /// Reads, writes, accepts and the like, whether or not they had to be repeated.
    pub n_io_calls: u64,
}
