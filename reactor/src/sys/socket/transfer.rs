//! Transfers between descriptors inside the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

use crate::sys::cvt::cvt_size;
use crate::sys::refusal::Refusal;

/// Sends up to `max_bytes` of a file, starting at `offset`, without copying them through the program.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; [`Unsupported`](io::ErrorKind::Unsupported) if
/// a sandbox refuses the call; other errors of sendfile(2).
///
/// # Platform
/// Linux. The call may raise `SIGPIPE`: see [`NoSignal`](super::NoSignal). Offsets have 64 bits
/// on every processor.
///
/// # References
/// [sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html).
pub fn send_file(
    to: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    max_bytes: usize,
) -> io::Result<usize> {
    static REFUSAL: Refusal = Refusal::new();
    let offset = libc::off64_t::try_from(offset)
        .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let call = |to: c_int, file: c_int| {
        let mut offset = offset;
        // SAFETY: `offset` is valid for reads and writes; a number that is not open is an error, no
        // harm.
        cvt_size(unsafe { libc::sendfile64(to, file, &mut offset, max_bytes) })
    };
    REFUSAL.or_else(
        || call(to.as_raw_fd(), file.as_raw_fd()),
        || call(-1, -1),
        || Err(io::Error::new(io::ErrorKind::Unsupported, "sendfile is refused, as by a sandbox")),
    )
}

/// Moves up to `max_bytes` from one descriptor to another. One of them must be a pipe.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing can be moved now;
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the descriptors do not support it;
/// [`Unsupported`](io::ErrorKind::Unsupported) if a sandbox refuses the call; other errors of splice(2).
///
/// # Platform
/// Linux.
///
/// # References
/// [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html).
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max_bytes: usize) -> io::Result<usize> {
    static REFUSAL: Refusal = Refusal::new();
    let call = |from: c_int, to: c_int| {
        let none = std::ptr::null_mut();
        let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
        // SAFETY: without offsets no memory is touched; a number that is not open is an
        // error, no harm.
        cvt_size(unsafe { libc::splice(from, none, to, none, max_bytes, flags) })
    };
    REFUSAL.or_else(
        || call(from.as_raw_fd(), to.as_raw_fd()),
        || call(-1, -1),
        || Err(io::Error::new(io::ErrorKind::Unsupported, "splice is refused, as by a sandbox")),
    )
}
