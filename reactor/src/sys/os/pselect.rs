//! pselect(2), on systems other than Linux.

use std::io;
use std::ptr;
use std::time::Duration;

use super::cvt::waited;
use super::selectors::wait::to_timespec;

/// Waits with select(2), to the nanosecond. Returns `None` if a signal ended the wait.
///
/// # Safety
/// Each set is null or valid for reads and writes of `n_fds` bits.
pub(super) unsafe fn select(
    n_fds: libc::c_int,
    [read, write, except]: [*mut libc::fd_set; 3],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timespec = timeout.map(to_timespec);
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller guarantees the sets; `timespec` is null or points to a local that outlives
    // the call; a null mask leaves the signal mask alone.
    waited(unsafe { libc::pselect(n_fds, read, write, except, timespec, ptr::null()) })
}
