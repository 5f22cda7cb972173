//! Flags, limits and options that the standard library lacks.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

use crate::sys::cvt::cvt;

/// The flag of a send that turns `SIGPIPE` into an error.
///
/// # Platform
/// On macOS the flag is empty: there it is an option of the socket (`SO_NOSIGPIPE`).
#[cfg(not(target_vendor = "apple"))]
pub const NO_SIGNAL: c_int = libc::MSG_NOSIGNAL;

/// The flag of a send that turns `SIGPIPE` into an error.
#[cfg(target_vendor = "apple")]
pub const NO_SIGNAL: c_int = 0;

/// The largest number of slices of one vectored read or write. More fail with `EINVAL` or `EMSGSIZE`.
///
/// # References
/// `IOV_MAX` in [readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html): 1,024 on Linux, macOS
/// and the BSDs.
pub const MAX_SLICES: usize = 1_024;

/// The flag that opens a FIFO in non-blocking mode, without waiting for the other end.
pub const OPEN_NONBLOCK: c_int = libc::O_NONBLOCK;

/// The flag that refuses to open a symbolic link.
pub const OPEN_NOFOLLOW: c_int = libc::O_NOFOLLOW;

/// The longest linger time of a socket (`SO_LINGER`), in seconds.
///
/// # Platform
/// Linux counts seconds in a C `int`; the BSDs refuse what a `short` cannot hold. macOS counts
/// hundredths of a second in a `short`, and would take the rest of a longer time.
pub const MAX_LINGER_SECONDS: u32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    c_int::MAX as u32
} else if cfg!(target_vendor = "apple") {
    i16::MAX as u32 / 100
} else {
    i16::MAX as u32
};

/// Returns the soft limit on open descriptors of this process (`RLIMIT_NOFILE`), or `None` if there is no limit.
///
/// # References
/// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub fn max_descriptors() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for a write.
    cvt(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).ok()?;
    (limit.rlim_cur != libc::RLIM_INFINITY).then(|| limit.rlim_cur.try_into().ok()).flatten()
}

/// Returns the index of a network device, such as `eth0` in the address `fe80::1%eth0`.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the name contains a NUL; `ENODEV` if the device does not
/// exist.
///
/// # References
/// [if_nametoindex(3)](https://man7.org/linux/man-pages/man3/if_nametoindex.3.html).
pub fn device_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: `name` is valid for reads up to its NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Enables TCP fast open on a listener, with up to `queue` half-open connections. Zero disables it.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) if the system lacks the option.
///
/// # References
/// `TCP_FASTOPEN` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), RFC 7413.
pub fn set_fast_open(fd: BorrowedFd<'_>, queue: c_int) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return set_tcp_option(fd, libc::TCP_FASTOPEN, queue);
    #[cfg(target_vendor = "apple")]
    return set_tcp_option(fd, libc::TCP_FASTOPEN, c_int::from(queue != 0));
    #[allow(unreachable_code, reason = "reached where the option is unknown")]
    no_fast_open(fd, queue)
}

/// Enables TCP fast open on a socket that is to be connected: the first data is sent with the connection
/// request if the server has allowed it before.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) if the system lacks the option.
///
/// # References
/// `TCP_FASTOPEN_CONNECT` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
pub fn set_fast_open_connect(fd: BorrowedFd<'_>, fast_open: bool) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return set_tcp_option(fd, libc::TCP_FASTOPEN_CONNECT, c_int::from(fast_open));
    #[allow(unreachable_code, reason = "reached where the option is unknown")]
    no_fast_open(fd, c_int::from(fast_open))
}

fn no_fast_open(_: BorrowedFd<'_>, value: c_int) -> io::Result<()> {
    if value == 0 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "TCP fast open is not available here"))
}

#[allow(dead_code, reason = "not every system has an option that is set with it")]
fn set_tcp_option(fd: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: `value` is valid for a read of the size that is given with it.
    cvt(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Requests a capacity for a pipe, in bytes, and returns the capacity that it has.
///
/// # Errors
/// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the capacity exceeds `fs.pipe-max-size`, or if the
/// pipes of the user hold too much already. The pipe does not change.
///
/// # Platform
/// Linux.
///
/// # References
/// `F_SETPIPE_SZ` in [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn set_pipe_size(fd: BorrowedFd<'_>, n_bytes: usize) -> io::Result<usize> {
    let n_bytes = c_int::try_from(n_bytes).unwrap_or(c_int::MAX);
    // SAFETY: `fd` is open while it is borrowed, and the call takes a number.
    let size = cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETPIPE_SZ, n_bytes) })?;
    // Not negative once `cvt` has let it pass.
    Ok(size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_name() {
        let loopback =
            if cfg!(any(target_os = "linux", target_os = "android")) { "lo" } else { "lo0" };
        assert_ne!(device_index(loopback).unwrap(), 0);
        assert!(device_index("no such device").is_err());
        assert_eq!(device_index("l\0o").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
