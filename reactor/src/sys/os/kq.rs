//! kqueue on macOS and the BSDs.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

pub(super) use libc::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_EOF, EV_ERROR, EV_ONESHOT, EV_RECEIPT, EVFILT_READ,
    EVFILT_TIMER, EVFILT_USER, EVFILT_WRITE, NOTE_TRIGGER, kevent as Kevent,
};

pub(super) use super::os::{Filter, Flags};

use super::cvt::{cvt, waited};
use super::os;
use super::selectors::kqueue::kernel::{Kernel, OutOfBand};
use super::selectors::wait::{to_ms, to_timespec};

/// A kqueue of the running kernel.
#[derive(Debug)]
pub(super) struct System(OwnedFd);

impl Kernel for System {
    const OUT_OF_BAND: Option<OutOfBand> = os::OUT_OF_BAND;
    const IS_POLLABLE: bool = true;

    fn open() -> io::Result<System> {
        open().map(System)
    }

    fn kevent(
        &self,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>> {
        kevent(&self.0, changes, events, timeout)
    }
}

impl AsFd for System {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a kqueue, close-on-exec.
fn open() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no arguments.
    let fd = cvt(unsafe { libc::kqueue() })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the call takes no pointers, and `fd` is open: it is owned.
    cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

/// Submits changes and waits. Returns `None` if a signal ended the wait.
fn kevent(
    kqueue: &OwnedFd,
    changes: &[Kevent],
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timespec = timeout.map(to_timespec);
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (n_changes, n_events) = (changes.len() as c_int, events.len() as c_int);
    // DragonFly writes an error without checking that there is room for it: to nowhere, then.
    let events = if events.is_empty() { ptr::null_mut() } else { events.as_mut_ptr() };
    // SAFETY: `changes` is valid for reads of its length, `events` for writes of its length or null,
    // and `timespec` is null or points to a local that outlives the call. The user data is a number
    // that is never dereferenced.
    waited(unsafe {
        libc::kevent(
            kqueue.as_raw_fd(),
            changes.as_ptr(),
            n_changes as _,
            events,
            n_events as _,
            timespec,
        )
    })
}

/// Opens the descriptor of a [`TimerFd`](super::timer::TimerFd): a kqueue.
pub(super) fn open_timer() -> io::Result<OwnedFd> {
    open()
}

/// Sets the timer, which also makes it unreadable. All systems support milliseconds.
pub(super) fn set_timer(timer: &OwnedFd, delay: Option<Duration>) -> io::Result<()> {
    // A timer that is set is deleted first, since adding it does not change it on every system. It is an error
    // if none is set.
    let _ = kevent(timer, &[timer_change(EV_DELETE, 0)], &mut [], Some(Duration::ZERO));
    if let Some(delay) = delay {
        let change = timer_change(EV_ADD | EV_ONESHOT, to_ms(Some(delay)));
        kevent(timer, &[change], &mut [], Some(Duration::ZERO))?;
    }
    Ok(())
}

fn timer_change(flags: Flags, delay_ms: c_int) -> Kevent {
    // SAFETY: a `kevent` is plain integers and a pointer, for which zero is valid.
    let mut change: Kevent = unsafe { std::mem::zeroed() };
    change.filter = EVFILT_TIMER;
    change.flags = flags;
    change.data = delay_ms as _;
    change
}
