//! What a kernel's answer to the addition of a filter means.
//!
//! The rules are the same for every system, since no two systems contradict each other.

use std::io;
use std::os::fd::RawFd;

use crate::Interest;
use crate::sys::cvt::check_open;
use crate::sys::kq::{self, Kevent};
use crate::sys::socket::kind::status;

use super::changes::interest_of;

/// The meaning of one receipt or error.
#[derive(Debug)]
pub(super) enum Answer {
    /// The filter was added.
    Accepted,
    /// It was not added, and would never report anything.
    Mute,
    /// It was not added, because the condition that it would report exists and is final.
    Lasting,
    /// The descriptor cannot be watched.
    Failed(io::Error),
}

impl Answer {
    /// Interprets the answer to an addition.
    pub(super) fn of(receipt: &Kevent) -> Answer {
        let errno = receipt.data as i32;
        if receipt.flags & kq::EV_ERROR == 0 || errno == 0 {
            return Answer::Accepted;
        }
        let fd = receipt.ident as RawFd;
        let filter = interest_of(receipt.filter);
        match errno {
            // A pipe whose other end is gone: FreeBSD, DragonFly.
            libc::EPIPE if filter.is_writable() => Answer::Lasting,
            // The same on NetBSD, where a closed number has the same error.
            libc::EBADF if filter.is_writable() && check_open(fd).is_ok() => Answer::Lasting,
            // Only sockets have out-of-band data: OpenBSD and macOS, or DragonFly.
            libc::EINVAL | libc::EOPNOTSUPP | libc::ENODEV if filter.is_priority() => Answer::Mute,
            // The other direction of a FIFO on OpenBSD, of a pipe on newer NetBSD.
            libc::EINVAL if is_open_for_other(fd, filter) => Answer::Mute,
            _ => Answer::Failed(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The answers to the additions of one registration.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) not_added: Interest,
    pub(super) lasting: Interest,
    /// The first error.
    pub(super) error: Option<io::Error>,
}

impl Answers {
    pub(super) fn note(&mut self, receipt: &Kevent) {
        let filter = interest_of(receipt.filter);
        match Answer::of(receipt) {
            Answer::Accepted => return,
            Answer::Mute => {}
            Answer::Lasting => self.lasting |= filter,
            Answer::Failed(error) => {
                self.error.get_or_insert(error);
            }
        }
        self.not_added |= filter;
    }
}

/// Reports whether `fd` was opened for the other direction alone.
fn is_open_for_other(fd: RawFd, direction: Interest) -> bool {
    let other = if direction.is_readable() { libc::O_WRONLY } else { libc::O_RDONLY };
    status(fd).is_ok_and(|status| status & libc::O_ACCMODE == other)
}
