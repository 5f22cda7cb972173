//! ppoll(2), which every system here has but macOS.

use std::io;
use std::ptr;
use std::time::Duration;

use super::cvt::waited;
use super::wait::to_timespec;

/// Waits with poll(2) to the nanosecond; `None` if a signal ended the wait.
pub(super) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timespec = timeout.map(to_timespec);
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `fds` is valid for reads and writes of its own length; `timespec` is null or points
    // to a local that outlives the call; a null mask leaves the signal mask alone.
    waited(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as _, timespec, ptr::null()) })
}
