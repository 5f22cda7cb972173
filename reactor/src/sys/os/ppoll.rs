//! ppoll(2), which all supported systems have except macOS.

use std::io;
use std::ptr;
use std::time::Duration;

use super::cvt::waited;
use super::refusal::Refusal;
use super::selectors::wait::{to_ms, to_timespec};

/// Waits with poll(2), to the nanosecond, or to the millisecond if a sandbox refuses ppoll(2). Returns `None` if a
/// signal ended the wait.
pub(super) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    static REFUSAL: Refusal = Refusal::new();
    let (items, n_items) = (fds.as_mut_ptr(), fds.len() as libc::nfds_t);
    let call = || {
        let timespec = timeout.map(to_timespec);
        let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `fds` is valid for reads and writes of its own length; `timespec` is null or points
        // to a local that outlives the call; a null mask leaves the signal mask alone.
        waited(unsafe { libc::ppoll(items, n_items, timespec, ptr::null()) })
    };
    let probe = || {
        let now = to_timespec(Duration::ZERO);
        // SAFETY: there are no items, and the timeout is a local.
        waited(unsafe { libc::ppoll(ptr::null_mut(), 0, &now, ptr::null()) })
    };
    // SAFETY: as for the first call.
    let plain = || waited(unsafe { libc::poll(items, n_items, to_ms(timeout)) });
    REFUSAL.or_else(call, probe, plain)
}
