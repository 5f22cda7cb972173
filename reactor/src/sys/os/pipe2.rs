//! pipe2(2), which all supported systems have except macOS.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::cvt::{cvt, named};

/// Opens a pipe, close-on-exec and non-blocking: the read end and the write end.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for writes of two integers.
    let result = cvt(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) });
    result.map_err(named("pipe2"))?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    let reader = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above, for the other end.
    let writer = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((reader, writer))
}
