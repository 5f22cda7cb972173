//! kqueue(2), bare.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_int, kevent};

use super::Bare;
use crate::cvt;

/// Waits with kqueue(2).
#[derive(Debug)]
pub struct Kqueue {
    kqueue: OwnedFd,
    buffer: Vec<kevent>,
    n_added: usize,
}

impl Kqueue {
    /// Opens an empty queue that reports up to `n_events` events at once.
    pub fn new(n_events: usize) -> io::Result<Kqueue> {
        // SAFETY: the call takes no pointers.
        let kqueue = cvt(unsafe { libc::kqueue() })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
        let kqueue = unsafe { OwnedFd::from_raw_fd(kqueue) };
        // SAFETY: a `kevent` is integers and a pointer that is never followed; zero is valid.
        let empty: kevent = unsafe { std::mem::zeroed() };
        Ok(Kqueue { kqueue, buffer: vec![empty; n_events], n_added: 0 })
    }

    #[inline]
    fn control(&self, fd: RawFd, filter: i32, flags: u32, position: usize) -> io::Result<()> {
        // SAFETY: as in `new`.
        let mut change: kevent = unsafe { std::mem::zeroed() };
        // The widths of these fields differ between systems; the values fit the narrowest.
        change.ident = fd as _;
        change.filter = filter as _;
        change.flags = flags as _;
        change.udata = position as _;
        let kqueue = self.kqueue.as_raw_fd();
        // SAFETY: `change` is a local that outlives the call, and no room for events is given.
        cvt(unsafe { libc::kevent(kqueue, &change, 1, ptr::null_mut(), 0, ptr::null()) })?;
        Ok(())
    }
}

impl Bare for Kqueue {
    const HAS_CONTROL_CALLS: bool = true;

    #[inline]
    fn add(&mut self, fd: RawFd) -> io::Result<()> {
        self.control(fd, libc::EVFILT_READ as i32, libc::EV_ADD as u32, self.n_added)?;
        self.n_added += 1;
        Ok(())
    }

    #[inline]
    fn modify(&mut self, fd: RawFd, and_writing: bool) -> io::Result<()> {
        let flags = if and_writing { libc::EV_ADD } else { libc::EV_DELETE };
        self.control(fd, libc::EVFILT_WRITE as i32, flags as u32, self.n_added - 1)
    }

    #[inline]
    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        self.n_added -= 1;
        self.control(fd, libc::EVFILT_READ as i32, libc::EV_DELETE as u32, 0)
    }

    #[inline]
    fn turn(&mut self, wait: bool, mut on_ready: impl FnMut(usize)) -> io::Result<()> {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if wait { ptr::null() } else { ptr::from_ref(&zero) };
        let (kqueue, buffer) = (self.kqueue.as_raw_fd(), self.buffer.as_mut_ptr());
        let n_max = self.buffer.len() as c_int;
        // SAFETY: `buffer` is valid for writes of `n_max` events: its vector is that long. The
        // timeout is null or points to a local.
        let n_events =
            cvt(unsafe { libc::kevent(kqueue, ptr::null(), 0, buffer, n_max as _, timeout) })?;
        for event in &self.buffer[..n_events as usize] {
            on_ready(event.udata as usize);
        }
        Ok(())
    }
}
