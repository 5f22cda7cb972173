//! [`Metrics`]: counters of a loop.

/// Counts of a runtime: its current contents, and its work since it was created.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let before = polyloop::runtime::metrics().polls;
/// polyloop::yield_now().await;
/// assert!(polyloop::runtime::metrics().polls > before);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Tasks that have not finished, or whose output has not been taken.
    pub tasks: usize,
    /// Armed timers.
    pub timers: usize,
    /// Registered descriptors.
    pub sources: usize,
    /// Polls of tasks and of the main future.
    pub polls: u64,
    /// System calls that waited or polled for events.
    pub waits: u64,
    /// System calls that changed the selector's registrations.
    pub control_calls: u64,
    /// System calls for I/O, such as reads, writes and accepts, including those that would have blocked.
    pub io_calls: u64,
}
