//! Linux and Android.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::cvt::cvt;
use super::wait::to_timespec;

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

/// Makes the descriptor of a [`TimerFd`](super::timer::TimerFd): a timerfd, close-on-exec.
pub(super) fn open_timer() -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: the call takes no pointers.
    let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets it, which also makes it unreadable. A delay is never zero.
pub(super) fn set_timer(timer: &OwnedFd, delay: Option<Duration>) -> io::Result<()> {
    let (once, unset) = (to_timespec(Duration::ZERO), Duration::ZERO);
    let value =
        libc::itimerspec { it_interval: once, it_value: to_timespec(delay.unwrap_or(unset)) };
    // SAFETY: `value` is a local that outlives the call, which writes nothing, since the pointer for the
    // old value is null; `timer` is open: it is owned.
    cvt(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &value, ptr::null_mut()) })?;
    Ok(())
}
