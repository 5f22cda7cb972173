//! kqueue on Linux, by the library libkqueue.
//!
//! For tests of the backend of macOS and the BSDs. Its differences from a real kqueue, as far as they
//! matter here:
//! - It is built on epoll: a descriptor that is closed while a duplicate exists is still
//!   reported, and no call can remove it. A real kqueue removes its filters.
//! - The descriptor of a kqueue is one end of a pipe and never readable: it cannot be
//!   watched by another selector.
//! - It fetches the pending error of a socket (`SO_ERROR`) to report it, so the next operation on
//!   the socket no longer fails with it.
//! - One call returns 512 events at most.
//! - Deleting a filter after its descriptor was closed leaves the library with a dangling pointer
//!   while a duplicate exists: `unregister` submits its changes while the descriptor is still open.
//! - Adding an existing filter fails unless it is edge-triggered: filters are always
//!   deleted before they are added again, which is correct on every system.

use std::ffi::{c_int, c_short, c_uint, c_ushort, c_void};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::cvt::{cvt, waited};
use super::selectors::wait::to_timespec;

pub(super) type Filter = c_short;
pub(super) type Flags = c_ushort;

pub(super) const EVFILT_READ: Filter = -1;
pub(super) const EVFILT_WRITE: Filter = -2;
pub(super) const EVFILT_USER: Filter = -11;

pub(super) const EV_ADD: Flags = 0x0001;
pub(super) const EV_DELETE: Flags = 0x0002;
pub(super) const EV_ONESHOT: Flags = 0x0010;
pub(super) const EV_CLEAR: Flags = 0x0020;
pub(super) const EV_RECEIPT: Flags = 0x0040;
pub(super) const EV_ERROR: Flags = 0x4000;
pub(super) const EV_EOF: Flags = 0x8000;

pub(super) const NOTE_TRIGGER: u32 = 0x0100_0000;

/// The filter and its flag for out-of-band data, where there is one.
pub(super) const OUT_OF_BAND: Option<(Filter, u32)> = None;

/// Whether a kqueue can be watched by another selector.
pub(super) const IS_POLLABLE: bool = false;

/// The library's `struct kevent`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Kevent {
    pub(super) ident: usize,
    pub(super) filter: Filter,
    pub(super) flags: Flags,
    pub(super) fflags: c_uint,
    pub(super) data: isize,
    pub(super) udata: *mut c_void,
}

mod ffi {
    use super::{Kevent, c_int};

    #[link(name = "kqueue")]
    unsafe extern "C" {
        pub(super) fn kqueue() -> c_int;
        pub(super) fn kevent(
            kqueue: c_int,
            changes: *const Kevent,
            n_changes: c_int,
            events: *mut Kevent,
            n_events: c_int,
            timeout: *const libc::timespec,
        ) -> c_int;
    }
}

/// Opens a kqueue.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no arguments.
    let fd = cvt(unsafe { ffi::kqueue() })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns. The
    // library notices by itself when it is closed.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the call takes no pointers, and `fd` is open: it is owned.
    cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

/// Returns whether a deletion must be submitted before the caller closes `fd`. If `fd` is closed
/// already, it is better to wait: the number may be used again for the same file.
pub(super) fn is_deletion_urgent(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no pointers and changes nothing, whatever the number.
    cvt(unsafe { libc::fcntl(fd, libc::F_GETFD) }).is_ok()
}

/// Submits changes and waits. Returns `None` if a signal ended the wait.
pub(super) fn kevent(
    kqueue: &OwnedFd,
    changes: &[Kevent],
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timespec = timeout.map(to_timespec);
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (n_changes, n_events) = (changes.len() as c_int, events.len() as c_int);
    let (fd, events) = (kqueue.as_raw_fd(), events.as_mut_ptr());
    // SAFETY: `changes` and `events` are valid for reads and writes of their own lengths, and
    // `timespec` is null or points to a local that outlives the call. The user data is a number
    // that is never dereferenced.
    waited(unsafe { ffi::kevent(fd, changes.as_ptr(), n_changes, events, n_events, timespec) })
}
