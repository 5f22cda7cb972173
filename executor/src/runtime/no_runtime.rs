//! The panic message on a thread without a runtime.

/// The reason and the remedies.
pub(crate) const NO_RUNTIME: &str = "no runtime on this thread: start one with `polyloop::run` or \
    `Runtime::block_on`, reach one that runs on another thread with `Handle::spawn`, or move only the \
    blocking part of the work to a thread, with `spawn_blocking`";

/// Panics at the caller of the function that calls it, if that is marked with `#[track_caller]`.
#[cold]
#[track_caller]
pub(crate) fn no_runtime(what: &str) -> ! {
    panic!("{what} with {NO_RUNTIME}")
}
