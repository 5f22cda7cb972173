//! Lists of `kevent`s: what is submitted to a kqueue and what it returns.

use std::os::fd::RawFd;
use std::ptr;

use super::kernel::Kernel;
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
    pub(super) fn add<K: Kernel>(
        &mut self,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
        generation: u32,
    ) {
        let flags = kq::EV_ADD
            | match mode {
                Mode::Level => 0,
                Mode::OneShot => kq::EV_ONESHOT,
                Mode::Edge => kq::EV_CLEAR,
            };
        for filter in filters::<K>(interest) {
            let mut addition = change(fd as usize, filter, flags, 0, generation as usize);
            if let Some(out_of_band) = K::OUT_OF_BAND
                && filter == out_of_band.filter
            {
                addition.fflags = out_of_band.mark;
                if let Some(low_water) = out_of_band.low_water {
                    addition.flags = kq::EV_ADD | kq::EV_CLEAR;
                    addition.fflags |= low_water;
                    addition.data = i32::MAX as _;
                }
            }
            self.0.push(addition);
        }
    }

    /// Queues the deletion of the filters for `interest`.
    pub(super) fn delete<K: Kernel>(&mut self, fd: RawFd, interest: Interest) {
        for filter in filters::<K>(interest) {
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

/// Lists the filters that report an interest.
fn filters<K: Kernel>(interest: Interest) -> impl Iterator<Item = Filter> {
    let read = interest.is_readable().then_some(kq::EVFILT_READ);
    let write = interest.is_writable().then_some(kq::EVFILT_WRITE);
    let out_of_band = K::OUT_OF_BAND.filter(|_| interest.is_priority());
    [read, write, out_of_band.map(|out_of_band| out_of_band.filter)].into_iter().flatten()
}

/// Returns the interest that requests a filter.
pub(super) fn interest_of(filter: Filter) -> Interest {
    match filter {
        kq::EVFILT_READ => Interest::READABLE,
        kq::EVFILT_WRITE => Interest::WRITABLE,
        _ => Interest::PRIORITY,
    }
}

/// Returns what an event reports, `None` if nothing that was requested.
pub(super) fn to_readiness<K: Kernel>(kevent: &Kevent) -> Option<Readiness> {
    let (mut reported, end) = match kevent.filter {
        kq::EVFILT_READ => (Readiness::READABLE, Readiness::READ_CLOSED),
        kq::EVFILT_WRITE => (Readiness::WRITABLE, Readiness::HANG_UP),
        _ => {
            // Data, the end or an error: their own filters report those.
            let mark = K::OUT_OF_BAND.map_or(0, |out_of_band| out_of_band.mark);
            return (kevent.fflags & mark != 0).then_some(Readiness::PRIORITY);
        }
    };
    if kevent.flags & kq::EV_EOF != 0 {
        reported |= end;
        // The socket's error, if it ended with one.
        if kevent.fflags != 0 {
            reported |= Readiness::ERROR;
        }
    }
    Some(reported)
}
