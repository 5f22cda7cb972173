//! Calls that every system here has but macOS: ppoll(2), and pipe2(2).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::cvt::{cvt, waited};
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

/// Makes a pipe: its read end and its write end, close-on-exec and non-blocking.
#[cfg_attr(all(target_os = "linux", not(test)), expect(dead_code, reason = "linux has eventfd"))]
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for writes of two integers.
    cvt(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns.
    let reader = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above, for the other end.
    let writer = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((reader, writer))
}
