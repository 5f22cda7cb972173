//! The structure and the numbers of kevent on Linux, which has no such call: those of libkqueue.

use std::ffi::{c_short, c_uint, c_ushort, c_void};

#[cfg(feature = "libkqueue")]
pub(super) use super::libkqueue::System;

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
