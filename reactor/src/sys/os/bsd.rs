//! The BSDs, macOS and its family: the systems that have kqueue.

use std::io;
use std::os::fd::OwnedFd;

use super::selectors::kqueue::kernel::OutOfBand;
use super::selectors::poll::ReadClosed;

pub(super) use super::kq::{open_timer, set_timer};
pub(super) use super::pselect::select;

#[cfg(target_vendor = "apple")]
pub(super) use super::apple::{pipe, poll};
#[cfg(not(target_vendor = "apple"))]
pub(super) use super::{pipe2::pipe, ppoll::poll};

pub(super) use system::{FdSetWord, Filter, Flags, OUT_OF_BAND, POLL_READ_CLOSED, errno_location};

/// Opens the descriptors of a [`WakeFd`](super::wake::WakeFd): a pipe.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    pipe().map(|(reader, writer)| (reader, Some(writer)))
}

// Each system gives values to the same names:
// - `errno_location`: returns the address of the thread's errno.
// - `Filter` and `Flags`: the types of a kevent's filter and flags.
// - `OUT_OF_BAND`: the filter for out-of-band data, if there is one.
// - `FdSetWord`: the unit that an `fd_set` is made of.
// - `POLL_READ_CLOSED`: the flag by which poll reports that the peer will send nothing more.

/// Only FreeBSD has one.
#[cfg(not(target_os = "freebsd"))]
const NO_READ_CLOSED: ReadClosed = ReadClosed { flag: 0, is_for_sockets: false };

#[cfg(target_vendor = "apple")]
mod system {
    use super::{NO_READ_CLOSED, OutOfBand, ReadClosed};

    pub(crate) use libc::__error as errno_location;

    pub(crate) type Filter = i16;
    pub(crate) type Flags = u16;
    pub(crate) type FdSetWord = u32;
    pub(crate) const OUT_OF_BAND: Option<OutOfBand> = Some(OutOfBand {
        filter: libc::EVFILT_EXCEPT,
        mark: libc::NOTE_OOB,
        low_water: Some(libc::NOTE_LOWAT),
    });
    pub(crate) const POLL_READ_CLOSED: ReadClosed = NO_READ_CLOSED;
}

#[cfg(target_os = "freebsd")]
mod system {
    use super::{OutOfBand, ReadClosed};

    pub(crate) use libc::__error as errno_location;

    pub(crate) type Filter = i16;
    pub(crate) type Flags = u16;
    pub(crate) type FdSetWord = libc::c_ulong;
    pub(crate) const OUT_OF_BAND: Option<OutOfBand> = None;
    pub(crate) const POLL_READ_CLOSED: ReadClosed =
        ReadClosed { flag: libc::POLLRDHUP, is_for_sockets: true };
}

#[cfg(target_os = "dragonfly")]
mod system {
    use super::{NO_READ_CLOSED, OutOfBand, ReadClosed};

    pub(crate) use libc::__errno_location as errno_location;

    pub(crate) type Filter = i16;
    pub(crate) type Flags = u16;
    pub(crate) type FdSetWord = libc::c_ulong;
    pub(crate) const OUT_OF_BAND: Option<OutOfBand> =
        Some(OutOfBand { filter: libc::EVFILT_EXCEPT, mark: libc::NOTE_OOB, low_water: None });
    pub(crate) const POLL_READ_CLOSED: ReadClosed = NO_READ_CLOSED;
}

#[cfg(target_os = "netbsd")]
mod system {
    use super::{NO_READ_CLOSED, OutOfBand, ReadClosed};

    pub(crate) use libc::__errno as errno_location;

    pub(crate) type Filter = u32;
    pub(crate) type Flags = u32;
    pub(crate) type FdSetWord = u32;
    pub(crate) const OUT_OF_BAND: Option<OutOfBand> = None;
    pub(crate) const POLL_READ_CLOSED: ReadClosed = NO_READ_CLOSED;
}

#[cfg(target_os = "openbsd")]
mod system {
    use super::{NO_READ_CLOSED, OutOfBand, ReadClosed};

    pub(crate) use libc::__errno as errno_location;

    pub(crate) type Filter = i16;
    pub(crate) type Flags = u16;
    pub(crate) type FdSetWord = u32;
    pub(crate) const OUT_OF_BAND: Option<OutOfBand> =
        Some(OutOfBand { filter: libc::EVFILT_EXCEPT, mark: libc::NOTE_OOB, low_water: None });
    pub(crate) const POLL_READ_CLOSED: ReadClosed = NO_READ_CLOSED;
}
