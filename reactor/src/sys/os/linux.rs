//! Linux and Android.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use super::cvt::{cvt, named, waited};
use super::refusal::Refusal;
use super::selectors::poll::ReadClosed;
use super::selectors::wait::{to_timespec, to_timeval};

#[cfg(target_os = "android")]
pub(super) use libc::__errno as errno_location;
#[cfg(target_os = "linux")]
pub(super) use libc::__errno_location as errno_location;

pub(super) use super::pipe2::pipe;
pub(super) use super::ppoll::poll;

/// The unit that an `fd_set` is made of.
pub(super) type FdSetWord = libc::c_ulong;

/// The flag by which poll reports that the peer will send nothing more.
pub(super) const POLL_READ_CLOSED: ReadClosed =
    ReadClosed { flag: libc::POLLRDHUP, is_for_sockets: false };

/// Opens the descriptor of a [`WakeFd`](super::wake::WakeFd): an eventfd, which is both ends, or a pipe if a
/// sandbox refuses eventfds.
pub(super) fn wake_ends() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    static REFUSAL: Refusal = Refusal::new();
    let call = || {
        // SAFETY: the call takes no pointers.
        cvt(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
    };
    // Flags that do not exist.
    // SAFETY: as above.
    let probe = || cvt(unsafe { libc::eventfd(0, -1) });
    let Some(fd) = REFUSAL.call(call, probe) else {
        return pipe().map(|(reader, writer)| (reader, Some(writer)));
    };
    let fd = fd.map_err(named("eventfd2"))?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(fd) }, None))
}

/// Waits with select(2) to the nanosecond, or to the microsecond where pselect6(2) is refused; `None`
/// if a signal ended the wait.
///
/// # Safety
/// Each set is null or valid for reads and writes of `n_fds` bits.
pub(super) unsafe fn select(
    n_fds: libc::c_int,
    sets: [*mut libc::fd_set; 3],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    static REFUSAL: Refusal = Refusal::new();
    let [read, write, except] = sets;
    let call = || {
        let timespec = timeout.map(to_timespec);
        let timespec = timespec.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the caller guarantees the sets; `timespec` is null or points to a local that
        // outlives the call; a null mask leaves the signal mask alone.
        waited(unsafe { libc::pselect(n_fds, read, write, except, timespec, ptr::null()) })
    };
    let probe = || {
        let (now, none) = (to_timespec(Duration::ZERO), ptr::null_mut());
        // SAFETY: no sets are passed, and the timeout is a local.
        waited(unsafe { libc::pselect(0, none, none, none, &now, ptr::null()) })
    };
    let plain = || {
        let mut timeval = timeout.map(to_timeval);
        let timeval = timeval.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
        // SAFETY: as for the first call.
        waited(unsafe { plain_select(n_fds, read, write, except, timeval) })
    };
    REFUSAL.or_else(call, probe, plain)
}

/// Makes the system call select(2). The function of the C library makes pselect6(2).
///
/// # Safety
/// As for the C library's `select`.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
unsafe fn plain_select(
    n_fds: libc::c_int,
    read: *mut libc::fd_set,
    write: *mut libc::fd_set,
    except: *mut libc::fd_set,
    timeval: *mut libc::timeval,
) -> libc::c_int {
    // SAFETY: the caller guarantees the pointers, and the arguments are those of the call.
    let result = unsafe { libc::syscall(libc::SYS_select, n_fds, read, write, except, timeval) };
    result as libc::c_int
}

// On other architectures the kernel has no other call, or one with another layout of the time.
#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
use libc::select as plain_select;

/// Opens the descriptor of a [`TimerFd`](super::timer::TimerFd): a timerfd, close-on-exec.
pub(super) fn open_timer() -> io::Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: the call takes no pointers.
    let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the timer, which also makes it unreadable. The delay is not zero.
pub(super) fn set_timer(timer: &OwnedFd, delay: Option<Duration>) -> io::Result<()> {
    let (once, unset) = (to_timespec(Duration::ZERO), Duration::ZERO);
    let value =
        libc::itimerspec { it_interval: once, it_value: to_timespec(delay.unwrap_or(unset)) };
    // SAFETY: `value` is a local that outlives the call, which writes nothing, since the pointer for the
    // old value is null; `timer` is open: it is owned.
    cvt(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &value, ptr::null_mut()) })?;
    Ok(())
}
