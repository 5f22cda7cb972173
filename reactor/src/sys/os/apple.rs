//! macOS and its family, which have neither ppoll(2) nor pipe2(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::cvt::{cvt, waited};
use super::selectors::wait::to_ms;

/// Opens a pipe, close-on-exec and non-blocking: the read end and the write end.
///
/// If another thread forks between the calls, the child inherits the ends.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for writes of two integers.
    cvt(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    let reader = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above, for the other end.
    let writer = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    for end in [&reader, &writer] {
        // SAFETY: the call takes no pointers, and `end` is open: it is owned.
        cvt(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        // SAFETY: as above. A new pipe has no status flags that this would clear.
        cvt(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    }
    Ok((reader, writer))
}

/// Waits with poll(2), to the millisecond, rounded up. Returns `None` if a signal ended the wait.
pub(super) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    // SAFETY: `fds` is valid for reads and writes of its own length.
    waited(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, to_ms(timeout)) })
}
