//! epoll(7), bare.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, epoll_event};

use super::Bare;
use crate::cvt;

/// Waits with epoll(7).
#[derive(Debug)]
pub struct Epoll {
    epoll: OwnedFd,
    buffer: Vec<epoll_event>,
    n_added: usize,
}

impl Epoll {
    /// Opens an empty set that reports up to `n_events` events at once.
    pub fn new(n_events: usize) -> io::Result<Epoll> {
        // SAFETY: the call takes no pointers.
        let epoll = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let buffer = vec![epoll_event { events: 0, u64: 0 }; n_events];
        Ok(Epoll { epoll, buffer, n_added: 0 })
    }

    #[inline]
    fn control(&self, operation: c_int, fd: RawFd, mask: c_int, position: usize) -> io::Result<()> {
        let mut event = epoll_event { events: mask as u32, u64: position as u64 };
        // SAFETY: `event` is a local that outlives the call; a wrong `fd` is an error, no harm.
        cvt(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }
}

impl Bare for Epoll {
    const HAS_CONTROL_CALLS: bool = true;

    #[inline]
    fn add(&mut self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, self.n_added)?;
        self.n_added += 1;
        Ok(())
    }

    #[inline]
    fn modify(&mut self, fd: RawFd, and_writing: bool) -> io::Result<()> {
        let mask = if and_writing { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        self.control(libc::EPOLL_CTL_MOD, fd, mask, self.n_added - 1)
    }

    #[inline]
    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        self.n_added -= 1;
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    #[inline]
    fn turn(&mut self, wait: bool, mut on_ready: impl FnMut(usize)) -> io::Result<()> {
        let (epoll, buffer) = (self.epoll.as_raw_fd(), self.buffer.as_mut_ptr());
        let (n_max, timeout_ms) = (self.buffer.len() as c_int, if wait { -1 } else { 0 });
        // SAFETY: `buffer` is valid for writes of `n_max` events: its vector is that long.
        let n_events = cvt(unsafe { libc::epoll_wait(epoll, buffer, n_max, timeout_ms) })?;
        for event in &self.buffer[..n_events as usize] {
            on_ready(event.u64 as usize);
        }
        Ok(())
    }
}
