//! An epoll set and its system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, epoll_event};

use crate::sys::cvt::{cvt, named, waited};
use crate::sys::refusal::Refusal;
use crate::sys::selectors::lost::LostDescriptor;
use crate::sys::selectors::wait::to_ms;

/// Owns an epoll set.
#[derive(Debug)]
pub(in crate::sys::selectors) struct EpollSet(OwnedFd);

impl EpollSet {
    /// Creates an empty set, close-on-exec.
    pub(in crate::sys::selectors) fn create() -> io::Result<EpollSet> {
        // SAFETY: the call takes no pointers.
        let epoll = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
        let epoll = epoll.map_err(named("epoll_create1"))?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
        Ok(EpollSet(unsafe { OwnedFd::from_raw_fd(epoll) }))
    }

    /// Adds, changes or deletes `fd`: `operation` is one of `EPOLL_CTL_*`.
    #[inline]
    pub(in crate::sys::selectors) fn control(
        &self,
        operation: c_int,
        fd: RawFd,
        mask: u32,
        cookie: u64,
    ) -> io::Result<()> {
        let mut event = epoll_event { events: mask, u64: cookie };
        // SAFETY: `event` is a local that outlives the call; a wrong `fd` is an error, no harm.
        cvt(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) })?;
        Ok(())
    }

    /// Makes this set readable whenever `inner` has an event.
    pub(in crate::sys::selectors) fn watch(&self, inner: &EpollSet) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, inner.0.as_raw_fd(), libc::EPOLLIN as u32, 0)
    }

    /// Replaces the set by `other`, under the same number.
    pub(in crate::sys::selectors) fn replace_with(&mut self, other: EpollSet) -> io::Result<()> {
        let (from, to) = (other.0.as_raw_fd(), self.0.as_raw_fd());
        // SAFETY: the call takes no pointers; both are open, and the number of `self` stays owned by
        // it: only the file behind it changes.
        cvt(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) })?;
        Ok(())
    }

    /// Waits and fills `buffer` from its start. Returns the number of events, `None` if a signal ended the
    /// wait.
    #[inline]
    pub(in crate::sys::selectors) fn wait(
        &self,
        buffer: &mut [epoll_event],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>> {
        /// Whether the kernel refuses `epoll_pwait2`.
        static NO_NANOSECONDS: Refusal = Refusal::new();
        let fd = self.0.as_raw_fd();
        if let Some(timeout) = timeout
            && !timeout.is_zero()
        {
            let call = || wait_ns(fd, buffer, timeout);
            let probe = || wait_ns(-1, &mut [epoll_event { events: 0, u64: 0 }], timeout);
            if let Some(result) = NO_NANOSECONDS.call(call, probe) {
                return result.map_err(|error| lost_or(error, fd));
            }
        }
        let (pointer, length) = (buffer.as_mut_ptr(), buffer.len() as c_int);
        // SAFETY: `buffer` is valid for writes of its length.
        let result = unsafe { libc::epoll_wait(fd, pointer, length, to_ms(timeout)) };
        waited(result).map_err(|error| lost_or(error, fd))
    }
}

impl AsFd for EpollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Explains the error of a wait if the number of the set was closed or names another file.
#[cold]
fn lost_or(error: io::Error, epoll: RawFd) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADF) => LostDescriptor::closed(epoll, error),
        // Nothing else in a wait is invalid.
        Some(libc::EINVAL) => LostDescriptor::replaced(epoll),
        _ => named("epoll_wait")(error),
    }
}

/// Waits to the nanosecond, if the kernel can.
fn wait_ns(
    epoll: RawFd,
    buffer: &mut [epoll_event],
    timeout: Duration,
) -> io::Result<Option<usize>> {
    /// The kernel's own `timespec`: 64 bits each on every architecture.
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    let timespec = Timespec {
        // Clamped by `Wait`.
        seconds: timeout.as_secs() as i64,
        nanoseconds: i64::from(timeout.subsec_nanos()),
    };
    let no_mask: *const libc::sigset_t = ptr::null();
    // SAFETY: `buffer` is valid for writes of its own length, `timespec` is a local that outlives
    // the call and has the layout of the kernel's, and no mask is passed, which has size 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll,
            buffer.as_mut_ptr(),
            buffer.len() as c_int,
            ptr::from_ref(&timespec),
            no_mask,
            0_usize,
        )
    };
    waited(result as c_int)
}
