//! FreeBSD.

use std::io;
use std::os::fd::OwnedFd;

pub(super) use libc::__error as errno_location;

pub(super) use super::newer::{pipe, poll};

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = libc::c_ulong;

/// The flag by which poll tells that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: libc::c_short = libc::POLLRDHUP;

/// Makes the descriptors of a [`WakeFd`](super::wake::WakeFd): a pipe.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    pipe().map(|(reader, writer)| (reader, Some(writer)))
}
