//! What safe code cannot do, for tests of selectors: descriptors by number, forks, signals at an interval, limits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::c_int;

use super::cvt::{cvt, retry};

/// Borrows a number as if it were open.
///
/// Only to pass a closed descriptor to a selector.
pub(crate) fn number(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is passed to selectors only, which handle a closed one as an error. Nothing owns
    // it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Duplicates a descriptor to the first free number from `least` on.
pub(crate) fn duplicate_from(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers, and `fd` is open while it is borrowed.
    let fd = cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a descriptor that only names the root directory.
///
/// The standard library's `custom_flags` loses `O_PATH` on musl, which counts it among the access modes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn name_of_root() -> io::Result<OwnedFd> {
    // SAFETY: the path ends with a zero and is not kept.
    let fd = cvt(unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns whether the number is open.
pub(crate) fn is_open(fd: RawFd) -> bool {
    descriptor_flags(fd).is_ok()
}

/// Returns whether a child process would inherit the descriptor.
pub(crate) fn is_inherited(fd: BorrowedFd<'_>) -> io::Result<bool> {
    descriptor_flags(fd.as_raw_fd()).map(|flags| flags & libc::FD_CLOEXEC == 0)
}

fn descriptor_flags(fd: RawFd) -> io::Result<c_int> {
    // SAFETY: F_GETFD takes no pointers and changes nothing, whatever the number.
    cvt(unsafe { libc::fcntl(fd, libc::F_GETFD) })
}

/// Closes a number that something else owns, for tests of that mistake.
pub fn close_number(fd: RawFd) -> io::Result<()> {
    // SAFETY: a selector owns the number, and handles this as an error. The test
    // forgets it afterwards, so the number is not closed again.
    cvt(unsafe { libc::close(fd) }).map(drop)
}

/// The state of a TCP connection.
#[cfg(all(feature = "kqueue-model", any(target_os = "linux", target_os = "android")))]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TcpState {
    /// This end was shut down for writing.
    HasSentEnd,
    Other,
}

/// Returns the state of the connection of a TCP socket.
#[cfg(all(feature = "kqueue-model", any(target_os = "linux", target_os = "android")))]
pub(crate) fn tcp_state(fd: BorrowedFd<'_>) -> io::Result<TcpState> {
    // The first byte of `tcp_info`; the kernel fills as much of it as there is room for.
    let mut state = 0_u8;
    let mut length: libc::socklen_t = 1;
    // SAFETY: `state` is valid for writes of `length`, and both outlive the call.
    cvt(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &mut length,
        )
    })?;
    // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK and CLOSING of the kernel's `tcp_states.h`.
    Ok(if matches!(state, 4 | 5 | 6 | 9 | 11) { TcpState::HasSentEnd } else { TcpState::Other })
}

/// Returns the open numbers below `end`.
pub fn open_numbers(end: RawFd) -> Vec<RawFd> {
    (0..end).filter(|&fd| is_open(fd)).collect()
}

/// Runs `child` in a forked child, and returns its exit code: 0 if it returned true, 1 if not or
/// if it panicked.
///
/// The child has one thread, this one. It must not touch what another thread may have locked.
pub fn in_forked_child(child: impl FnOnce() -> bool) -> io::Result<i32> {
    // SAFETY: the child is a copy of this thread; the caller is responsible for what it does there.
    let pid = cvt(unsafe { libc::fork() })?;
    if pid == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        let code = if matches!(outcome, Ok(true)) { 0 } else { 1 };
        // SAFETY: ends the child without the parent's exit handlers; nothing runs after it.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes, and `pid` is our child, waited for once.
    retry(|| cvt(unsafe { libc::waitpid(pid, &mut status, 0) }))?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 })
}

/// Sends a signal to this process.
pub fn raise(signum: i32) -> io::Result<()> {
    // SAFETY: the calls take no pointers.
    let pid = unsafe { libc::getpid() };
    // SAFETY: as above; what the signal does is its disposition's business.
    cvt(unsafe { libc::kill(pid, signum) })?;
    Ok(())
}

/// Sends `SIGALRM` to this process every `interval`; zero stops.
pub fn alarm_every(interval: Duration) -> io::Result<()> {
    let tick =
        libc::timeval { tv_sec: interval.as_secs() as _, tv_usec: interval.subsec_micros() as _ };
    let timer = libc::itimerval { it_interval: tick, it_value: tick };
    // SAFETY: `timer` is a local that outlives the call; the former setting is not asked for.
    cvt(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) })?;
    Ok(())
}

/// Returns the address of the function or the default that a signal is handled by.
pub fn disposition(signum: i32) -> io::Result<usize> {
    // SAFETY: a `sigaction` is plain integers and an optional function, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null action changes nothing, and `action` is valid for writes.
    cvt(unsafe { libc::sigaction(signum, std::ptr::null(), &mut action) })?;
    Ok(action.sa_sigaction)
}

/// Makes a signal ignored.
pub fn ignore(signum: i32) -> io::Result<()> {
    // SAFETY: ignoring a signal installs no code.
    if unsafe { libc::signal(signum, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns how many descriptors this process may have open.
pub fn descriptor_limit() -> io::Result<u64> {
    limit().map(|limit| limit.rlim_cur as _)
}

/// Sets how many descriptors this process may have open, up to what the system allows it.
pub fn set_descriptor_limit(n_descriptors: u64) -> io::Result<()> {
    let mut limit = limit()?;
    limit.rlim_cur = n_descriptors as _;
    // SAFETY: `limit` is a local that outlives the call.
    cvt(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(())
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    cvt(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    Ok(limit)
}

/// Makes the system keep the errors that belong to the datagrams of a socket of the internet family,
/// version 4.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn keep_errors(fd: BorrowedFd<'_>) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: `one` is valid for a read of the size that is given with it.
    cvt(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_RECVERR,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Takes one of the errors that the system keeps for a socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn take_kept_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: zero is valid for all of it: no buffers, no room for an address.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // Without a buffer qemu's user mode makes no call and claims success.
    let mut byte = 0_u8;
    let mut buffer = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    (message.msg_iov, message.msg_iovlen) = (&raw mut buffer, 1);
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: `message`, `buffer` and `byte` outlive the call and belong to it alone.
    super::cvt::cvt_size(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) }).map(drop)
}
