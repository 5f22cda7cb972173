//! Linux and Android.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::cvt::cvt;

#[cfg(target_os = "android")]
pub(super) use libc::__errno as errno_location;
#[cfg(target_os = "linux")]
pub(super) use libc::__errno_location as errno_location;

pub(super) use super::pipe2::pipe;
pub(super) use super::ppoll::poll;

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = libc::c_ulong;

/// The flag by which poll tells that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: libc::c_short = libc::POLLRDHUP;

/// Makes the descriptor of a [`WakeFd`](super::wake::WakeFd): an eventfd is both ends.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    // SAFETY: the call takes no pointers.
    let fd = cvt(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, None))
}
