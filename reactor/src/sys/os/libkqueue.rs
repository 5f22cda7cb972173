//! kqueue on Linux, as the library libkqueue has it.
//!
//! For tests of the file that serves macOS and the BSDs. Its differences from the real thing, as
//! far as they show here:
//! - It stands on epoll: a descriptor that is closed while a duplicate lives goes on being
//!   reported, and nothing can silence it. The real thing removes its filters.
//! - What it gives for a kqueue's descriptor is one end of a pipe, never readable: it cannot be
//!   watched by another selector.
//! - It fetches the pending error of a socket (`SO_ERROR`) to report it, so the next operation on
//!   the socket no longer fails with it.
//! - One call gives 512 events at most.
//! - Taking a filter out after its descriptor was closed leaves the library with a dangling pointer
//!   while a duplicate lives: what `unregister` queues is submitted while it is still open.
//! - Adding a filter that is there already fails unless it is edge-triggered: filters are always
//!   deleted before they are added again, which is right on every system.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::cvt::{check_open, cvt, waited};
use super::kq::Kevent;
use super::selectors::kqueue::kernel::{Kernel, OutOfBand};
use super::selectors::wait::to_timespec;

/// A kqueue of the library.
#[derive(Debug)]
pub(super) struct System(OwnedFd);

impl Kernel for System {
    const OUT_OF_BAND: Option<OutOfBand> = None;
    const IS_POLLABLE: bool = false;

    fn open() -> io::Result<System> {
        // SAFETY: the call takes no arguments.
        let fd = cvt(unsafe { ffi::kqueue() })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that has no other owner. The
        // library notices by itself when it is closed.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the call takes no pointers, and `fd` is open: it is owned.
        cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        Ok(System(fd))
    }

    fn kevent(
        &self,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>> {
        let timespec = timeout.map(to_timespec);
        let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (n_changes, n_events) = (changes.len() as c_int, events.len() as c_int);
        let (fd, events) = (self.0.as_raw_fd(), events.as_mut_ptr());
        // SAFETY: `changes` and `events` are valid for reads and writes of their own lengths, and
        // `timespec` is null or points to a local that outlives the call. The user data is a number
        // that is not followed as a pointer.
        waited(unsafe { ffi::kevent(fd, changes.as_ptr(), n_changes, events, n_events, timespec) })
    }

    /// If `fd` is closed already, it is better to wait: the number may come back with the same file.
    fn is_deletion_urgent(fd: RawFd) -> bool {
        check_open(fd).is_ok()
    }
}

impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
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
