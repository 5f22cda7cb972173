//! [`Metrics`]: counters of a loop.

/// Counts of a runtime: its current contents, and its work since it was created.
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
    /// Tasks that have not finished, or whose output has not been taken.
    pub n_tasks: usize,
    /// Armed timers.
    pub n_timers: usize,
    /// Registered descriptors.
    pub n_sources: usize,
    /// Polls of tasks and of the main future.
    pub n_polls: u64,
    /// System calls that waited or polled for events.
    pub n_waits: u64,
    /// System calls that changed the selector's registrations.
    pub n_control_calls: u64,
    /// System calls for I/O, such as reads, writes and accepts, including those that would have blocked.
    pub n_io_calls: u64,
}
