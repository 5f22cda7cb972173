//! poll(2), bare.

use std::io;
use std::os::fd::RawFd;

use libc::pollfd;

use super::Bare;
use crate::cvt;

/// Waits with poll(2).
#[derive(Debug, Default)]
pub struct Poll {
    fds: Vec<pollfd>,
}

impl Poll {
    /// Opens an empty set.
    pub fn new() -> Poll {
        Poll::default()
    }
}

impl Bare for Poll {
    const HAS_CONTROL_CALLS: bool = false;

    #[inline]
    fn add(&mut self, fd: RawFd) -> io::Result<()> {
        self.fds.push(pollfd { fd, events: libc::POLLIN, revents: 0 });
        Ok(())
    }

    #[inline]
    fn modify(&mut self, _fd: RawFd, and_writing: bool) -> io::Result<()> {
        let last = self.fds.last_mut().expect("something was added");
        last.events = if and_writing { libc::POLLIN | libc::POLLOUT } else { libc::POLLIN };
        Ok(())
    }

    #[inline]
    fn remove(&mut self, _fd: RawFd) -> io::Result<()> {
        self.fds.pop();
        Ok(())
    }

    #[inline]
    fn turn(&mut self, wait: bool, mut on_ready: impl FnMut(usize)) -> io::Result<()> {
        let (fds, n_fds) = (self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t);
        // SAFETY: `fds` is valid for reads and writes of `n_fds` items: its vector is that long.
        let mut n_left = cvt(unsafe { libc::poll(fds, n_fds, if wait { -1 } else { 0 }) })?;
        for (position, item) in self.fds.iter().enumerate() {
            if n_left == 0 {
                break;
            }
            if item.revents != 0 {
                n_left -= 1;
                on_ready(position);
            }
        }
        Ok(())
    }
}
