//! The owner of SIGIO: the part of signal-driven I/O that has no safe wrapper.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt;

/// Makes the system send SIGIO to this process whenever the state of `fd` changes.
///
/// SIGIO ends the process by default, so the caller has to block it in all threads and receive it with `sigwait`.
///
/// # References
/// [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_SETOWN` and `O_ASYNC`.
pub fn send_to_this_process(fd: BorrowedFd<'_>) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // A process number is positive and fits a `c_int`.
    let process = std::process::id() as libc::c_int;
    // SAFETY: the command takes a number and no pointer; `fd` is borrowed, so it is open.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETOWN, process) })?;
    // SAFETY: the command takes no argument.
    let flags = cvt(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: the command takes flags and no pointer.
    cvt(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) })?;
    Ok(())
}
