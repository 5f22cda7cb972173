//! DragonFly.

use std::io;
use std::os::fd::OwnedFd;

pub(super) use libc::__errno_location as errno_location;

pub(super) use super::kq::{open_timer, set_timer};
pub(super) use super::pipe2::pipe;
pub(super) use super::ppoll::poll;
pub(super) use super::pselect::select;

/// The type of a kevent's filter.
pub(super) type Filter = i16;

/// The type of a kevent's flags.
pub(super) type Flags = u16;

/// The filter and its flag for out-of-band data, where there is one.
pub(super) const OUT_OF_BAND: Option<(Filter, u32)> = Some((libc::EVFILT_EXCEPT, libc::NOTE_OOB));

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = libc::c_ulong;

/// poll has no flag here to tell that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: libc::c_short = 0;

/// Makes the descriptors of a [`WakeFd`](super::wake::WakeFd): a pipe.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    pipe().map(|(reader, writer)| (reader, Some(writer)))
}
