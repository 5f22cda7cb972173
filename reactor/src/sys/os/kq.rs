//! kqueue on macOS and the BSDs.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

pub(super) use libc::{
    EV_ADD, EV_CLEAR, EV_DELETE, EV_EOF, EV_ERROR, EV_ONESHOT, EV_RECEIPT, EVFILT_READ,
    EVFILT_TIMER, EVFILT_USER, EVFILT_WRITE, NOTE_TRIGGER, kevent as Kevent,
};

pub(super) use super::os::{Filter, Flags, OUT_OF_BAND};

use super::cvt::{cvt, waited};
use super::selectors::wait::{to_ms, to_timespec};

/// Whether a kqueue can be watched by another selector.
pub(super) const IS_POLLABLE: bool = true;

/// Opens a kqueue, close-on-exec.
pub(super) fn open() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no arguments.
    let fd = cvt(unsafe { libc::kqueue() })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the call takes no pointers, and `fd` is open: it is owned.
    cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(fd)
}

/// Returns whether a deletion must be submitted before the caller closes the descriptor. It need not: the system
/// removes the filters of a closed descriptor.
pub(super) fn is_deletion_urgent(_fd: RawFd) -> bool {
    false
}

/// Submits changes and waits. Returns `None` if a signal ended the wait.
pub(super) fn kevent(
    kqueue: &OwnedFd,
    changes: &[Kevent],
    events: &mut [Kevent],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    let timespec = timeout.map(to_timespec);
    let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (n_changes, n_events) = (changes.len() as c_int, events.len() as c_int);
    // SAFETY: `changes` and `events` are valid for reads and writes of their own lengths, and
    // `timespec` is null or points to a local that outlives the call. The user data is a number
    // that is never dereferenced.
    waited(unsafe {
        libc::kevent(
            kqueue.as_raw_fd(),
            changes.as_ptr(),
            n_changes as _,
            events.as_mut_ptr(),
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
