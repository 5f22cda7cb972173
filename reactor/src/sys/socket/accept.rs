//! Accepting connections: flags, and what a failure means.

use std::io;

#[cfg(not(target_vendor = "apple"))]
use libc::c_int;

#[cfg(not(target_vendor = "apple"))]
use crate::sys::cvt::{cvt, explain};
#[cfg(not(target_vendor = "apple"))]
use crate::sys::refusal::{Refusal, is_refusal, is_refused};

/// The flags with which a connection is accepted: non-blocking and close-on-exec from its first
/// moment on, and in one system call.
///
/// # Platform
/// macOS has no accept4(2): there both are set afterwards.
///
/// # References
/// [accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
#[cfg(not(target_vendor = "apple"))]
pub const ACCEPT_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Accepts with `call`, which is accept4(2), or with `plain` where that is refused, as by a sandbox:
/// with accept(2), and the two flags set afterwards.
///
/// # Errors
/// Those of `call` or `plain`. If accept(2) is refused as well, the error says so and is one of the
/// [listener](AcceptFailure::Listener).
///
/// # Platform
/// All but macOS, which has no accept4(2).
///
/// # References
/// [accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
#[cfg(not(target_vendor = "apple"))]
pub fn accept4_or<T>(
    call: impl FnOnce() -> io::Result<T>,
    plain: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    static REFUSAL: Refusal = Refusal::new();
    let no_address = std::ptr::null_mut();
    let no_size = std::ptr::null_mut();
    let probe_accept4 = || {
        // SAFETY: there is no such descriptor, and no address is asked for.
        let result = unsafe { libc::accept4(-1, no_address, no_size, ACCEPT_FLAGS) };
        Err(cvt(result).expect_err("no such descriptor"))
    };
    let probe_accept = || {
        // SAFETY: as above.
        cvt(unsafe { libc::accept(-1, no_address, no_size) })
    };
    let plain = || match plain() {
        Err(error) if is_refusal(&error) && is_refused(probe_accept) => {
            Err(explain(error, "accept is refused, as by a sandbox".to_owned()))
        }
        result => result,
    };
    REFUSAL.or_else(call, probe_accept4, plain)
}

/// Says what a failed `accept` means for the listener. See [`accept_failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptFailure {
    /// One connection has failed before it was its turn. Try the next one at once.
    Connection,
    /// Something has run out: descriptors, or memory. The connection is still waiting. Try again
    /// after a while, or when something was closed.
    Exhausted,
    /// The listener itself is broken, and trying again would not help.
    Listener,
}

/// Classifies an error of `accept`.
///
/// The listener is to blame for `EBADF`, `EINVAL` (it does not listen), `ENOTSOCK`, `EFAULT` and
/// `ENOSYS`, and for errors that are not the system's. Descriptors or memory have run out with `EMFILE`,
/// `ENFILE`, `ENOBUFS` and `ENOMEM`. Every other error is one connection's: the networks below a socket,
/// a firewall or a security module may add to them.
///
/// # Platform
/// On Linux an error that is pending on the new connection is returned by `accept` itself, and
/// the manual page asks to treat network and protocol errors as `EAGAIN`.
///
/// # References
/// [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html), section "Error handling".
pub fn accept_failure(error: &io::Error) -> AcceptFailure {
    if error.kind() == io::ErrorKind::ConnectionAborted {
        return AcceptFailure::Connection;
    }
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
            AcceptFailure::Exhausted
        }
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT | libc::ENOSYS) | None => {
            AcceptFailure::Listener
        }
        Some(_) => AcceptFailure::Connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_accept_is_of_one_class() {
        let of = |errno| accept_failure(&io::Error::from_raw_os_error(errno));
        for errno in [
            libc::ECONNABORTED,
            libc::ECONNRESET,
            libc::EPROTO,
            libc::EINTR,
            libc::EAGAIN,
            libc::EPERM,
            libc::EACCES,
            libc::ENETDOWN,
            libc::ENETUNREACH,
            libc::EHOSTDOWN,
            libc::EHOSTUNREACH,
            libc::ENOPROTOOPT,
            libc::EOPNOTSUPP,
            libc::ETIMEDOUT,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            libc::ENONET,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            libc::ENOSR,
        ] {
            assert_eq!(of(errno), AcceptFailure::Connection, "{errno}");
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(of(errno), AcceptFailure::Exhausted, "{errno}");
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT] {
            assert_eq!(of(errno), AcceptFailure::Listener, "{errno}");
        }
        let own = io::Error::other("not of the system");
        assert_eq!(accept_failure(&own), AcceptFailure::Listener);
        let no_address = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(accept_failure(&no_address), AcceptFailure::Connection);
    }
}
