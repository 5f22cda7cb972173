//! macOS and its family, which have neither ppoll(2) nor pipe2(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

pub(super) use libc::__error as errno_location;

pub(super) use super::kq::{open_timer, set_timer};

pub(super) use super::pselect::select;

use super::cvt::{cvt, waited};
use super::wait::to_ms;

/// The type of a kevent's filter.
pub(super) type Filter = i16;

/// The type of a kevent's flags.
pub(super) type Flags = u16;

/// The filter and its flag for out-of-band data, where there is one.
pub(super) const OUT_OF_BAND: Option<(Filter, u32)> = Some((libc::EVFILT_EXCEPT, libc::NOTE_OOB));

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = u32;

/// poll has no flag here to tell that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: libc::c_short = 0;

/// Makes the descriptors of a [`WakeFd`](super::wake::WakeFd): a pipe.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    pipe().map(|(reader, writer)| (reader, Some(writer)))
}

/// Makes a pipe: its read end and its write end, close-on-exec and non-blocking.
///
/// A fork in another thread between the calls leaks the ends into that child.
pub(super) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` is valid for writes of two integers.
    cvt(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns.
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

/// Waits with poll(2) to the millisecond, rounded up; `None` if a signal ended the wait.
pub(super) fn poll(
    fds: &mut [libc::pollfd],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    // SAFETY: `fds` is valid for reads and writes of its own length.
    waited(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, to_ms(timeout)) })
}
