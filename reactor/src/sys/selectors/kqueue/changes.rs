//! Lists of `kevent`s: what is submitted to a kqueue and what it returns.

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use crate::sys::kq::{self, Filter, Flags, Kevent};
use crate::{Interest, Mode, Readiness};

/// What a deletion carries in place of a generation. No registration has 0.
pub(super) const DELETION: usize = 0;

/// A list of `kevent`s. The pointers in them are numbers, so it may be sent to another thread.
#[derive(Debug, Default)]
pub(super) struct Changes(pub(super) Vec<Kevent>);

// SAFETY: the only thing in a `kevent` that keeps it from being sent is the user data, in which
// this file stores numbers, never pointers.
unsafe impl Send for Changes {}

impl Changes {
    /// Queues the addition of the filters for `interest`.
    pub(super) fn add(&mut self, fd: RawFd, interest: Interest, mode: Mode, generation: u32) {
        let flags = kq::EV_ADD
            | match mode {
                Mode::Level => 0,
                Mode::OneShot => kq::EV_ONESHOT,
                Mode::Edge => kq::EV_CLEAR,
            };
        for (filter, fflags) in filters(interest) {
            self.0.push(change(fd as usize, filter, flags, fflags, generation as usize));
        }
    }

    /// Queues the deletion of the filters for `interest`.
    pub(super) fn delete(&mut self, fd: RawFd, interest: Interest) {
        for (filter, _) in filters(interest) {
            self.0.push(change(fd as usize, filter, kq::EV_DELETE, 0, DELETION));
        }
    }

    /// Grows to at least `length` items.
    pub(super) fn grow(&mut self, length: usize) {
        if self.0.len() < length {
            self.0.resize(length, change(0, kq::EVFILT_READ, 0, 0, 0));
        }
    }
}

pub(super) fn change(
    ident: usize,
    filter: Filter,
    flags: Flags,
    fflags: u32,
    cookie: usize,
) -> Kevent {
    // SAFETY: a `kevent` is plain integers and a pointer, for which zero is valid.
    let mut change: Kevent = unsafe { std::mem::zeroed() };
    change.ident = ident;
    change.filter = filter;
    change.flags = flags;
    change.fflags = fflags;
    change.udata = ptr::without_provenance_mut(cookie);
    change
}

/// Lists the filters that report an interest, with the flags they need.
fn filters(interest: Interest) -> impl Iterator<Item = (Filter, u32)> {
    let read = interest.is_readable().then_some((kq::EVFILT_READ, 0));
    let write = interest.is_writable().then_some((kq::EVFILT_WRITE, 0));
    let priority = if interest.is_priority() { kq::OUT_OF_BAND } else { None };
    [read, write, priority].into_iter().flatten()
}

/// Returns the error of a change, if it had one that matters.
pub(super) fn failure(receipt: &Kevent) -> Option<io::Error> {
    let errno = receipt.data as i32;
    let is_failure = receipt.flags & kq::EV_ERROR != 0 && errno != 0 && errno != libc::EPIPE;
    is_failure.then(|| io::Error::from_raw_os_error(errno))
}

/// Returns which filter fired, as the interest that requested it, and what it reported.
pub(super) fn to_readiness(kevent: &Kevent) -> (Interest, Readiness) {
    let is_eof = kevent.flags & kq::EV_EOF != 0;
    let (filter, mut reported, end) = match kevent.filter {
        kq::EVFILT_READ => (Interest::READABLE, Readiness::READABLE, Readiness::READ_CLOSED),
        kq::EVFILT_WRITE => (Interest::WRITABLE, Readiness::WRITABLE, Readiness::HANG_UP),
        _ => (Interest::PRIORITY, Readiness::PRIORITY, Readiness::READ_CLOSED),
    };
    if is_eof {
        reported |= end;
        // The socket's error, if it ended with one.
        if kevent.fflags != 0 {
            reported |= Readiness::ERROR;
        }
    }
    (filter, reported)
}
