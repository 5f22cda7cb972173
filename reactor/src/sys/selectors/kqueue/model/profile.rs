//! What each system's kernel answers, as one table. `docs/kqueue.md` names the sources.

use libc::{EBADF, EINVAL, EOPNOTSUPP, EPIPE, c_int};

use crate::conformance::KqueueSystem;
use crate::sys::kq::Filter;
use crate::sys::selectors::kqueue::kernel::OutOfBand;

/// One column of the table.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) system: KqueueSystem,
    /// The filter for out-of-band data, and the answer to its addition to what is no socket.
    pub(super) out_of_band: Option<(OutOfBand, c_int)>,
    /// The answer to the addition of the filter for writing to a pipe whose other end is gone. Otherwise
    /// it is added, and reports the end.
    pub(super) broken_pipe: Option<c_int>,
    /// Whether that filter is dropped after one report if the other end goes later.
    pub(super) drops_writer: bool,
    /// Whether errors are written without looking whether there is room.
    pub(super) overruns: bool,
    /// Whether an error keeps the flags of its change.
    pub(super) keeps_flags: bool,
}

const NOTE_LOWAT: u32 = 0x1;
const NOTE_OOB: u32 = 0x2;

/// `EVFILT_EXCEPT`.
const EXCEPT: OutOfBand = OutOfBand { filter: EVFILT_EXCEPT, mark: NOTE_OOB, low_water: None };
const EVFILT_EXCEPT: Filter = -15;

pub(super) const FREEBSD: Profile = Profile {
    system: KqueueSystem::FREEBSD,
    out_of_band: None,
    broken_pipe: Some(EPIPE),
    drops_writer: true,
    overruns: false,
    keeps_flags: false,
};

pub(super) const OPENBSD: Profile = Profile {
    system: KqueueSystem::OPENBSD,
    out_of_band: Some((EXCEPT, EINVAL)),
    broken_pipe: None,
    drops_writer: false,
    ..FREEBSD
};

pub(super) const NETBSD: Profile = Profile {
    system: KqueueSystem::NETBSD,
    broken_pipe: Some(EBADF),
    drops_writer: false,
    ..FREEBSD
};

/// Since `sys_pipe.c` 1.165.
pub(super) const NEWER_NETBSD: Profile = Profile { system: KqueueSystem::NEWER_NETBSD, ..NETBSD };

pub(super) const DRAGONFLY: Profile = Profile {
    system: KqueueSystem::DRAGONFLY,
    out_of_band: Some((EXCEPT, EOPNOTSUPP)),
    drops_writer: false,
    overruns: true,
    ..FREEBSD
};

pub(super) const MACOS: Profile = Profile {
    system: KqueueSystem::MACOS,
    out_of_band: Some((OutOfBand { low_water: Some(NOTE_LOWAT), ..EXCEPT }, EINVAL)),
    broken_pipe: None,
    drops_writer: false,
    keeps_flags: true,
    ..FREEBSD
};
