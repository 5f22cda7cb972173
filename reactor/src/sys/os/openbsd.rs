//! OpenBSD.

use std::io;
use std::os::fd::OwnedFd;

pub(super) use libc::__errno as errno_location;

pub(super) use super::newer::{pipe, poll};

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = u32;

/// poll has no flag here to tell that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: libc::c_short = 0;

/// Makes the descriptors of a [`WakeFd`](super::wake::WakeFd): a pipe.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    pipe().map(|(reader, writer)| (reader, Some(writer)))
}
