//! Accepting connections: flags and errors.

use std::io;

#[cfg(not(target_vendor = "apple"))]
use libc::c_int;

#[cfg(not(target_vendor = "apple"))]
use crate::sys::cvt::{cvt, explain};
#[cfg(not(target_vendor = "apple"))]
use crate::sys::refusal::{Refusal, is_refusal, is_refused};

/// The flags of accept4(2) that make a connection non-blocking and close-on-exec.
///
/// # Platform
/// macOS has no accept4(2): set both after accepting.
///
/// # References
/// [accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
#[cfg(not(target_vendor = "apple"))]
pub const ACCEPT_FLAGS: c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// Accepts a connection with `call`, which makes accept4(2), or with `plain`, which makes accept(2) and sets
/// the two flags, if a sandbox refuses accept4(2).
///
/// # Errors
/// The errors of `call` or `plain`. If accept(2) is refused as well, the error is one of the
/// [listener](AcceptErrorKind::Listener).
///
/// # Platform
/// Not on macOS, which has no accept4(2).
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
        // SAFETY: there is no such descriptor, and no address is requested.
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

/// Classifies the errors of `accept` by what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptErrorKind {
    /// One connection failed before it was accepted. Accept the next one.
    Connection,
    /// File descriptors or memory are exhausted, and the connection stays in the queue. Back off, or retry when a
    /// descriptor has been closed.
    Exhausted,
    /// The listener is broken, and accepting again fails as well.
    Listener,
}

impl AcceptErrorKind {
    /// Classifies an error of `accept`.
    ///
    /// - `Listener`: `EBADF`, `EINVAL` (the socket does not listen), `ENOTSOCK`, `EFAULT`, `ENOSYS`, and errors without a
    ///   number.
    /// - `Exhausted`: `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`.
    /// - `Connection`: all others. Networks, firewalls and security modules may add to them.
    ///
    /// # Platform
    /// On Linux `accept` returns an error that is pending on the new connection, and the manual page recommends to
    /// treat network and protocol errors as `EAGAIN`.
    ///
    /// # References
    /// [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html), section "Error handling".
    pub fn from_error(error: &io::Error) -> AcceptErrorKind {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return AcceptErrorKind::Connection;
        }
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                AcceptErrorKind::Exhausted
            }
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT | libc::ENOSYS)
            | None => AcceptErrorKind::Listener,
            Some(_) => AcceptErrorKind::Connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_accept_is_of_one_kind() {
        let of = |errno| AcceptErrorKind::from_error(&io::Error::from_raw_os_error(errno));
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
            assert_eq!(of(errno), AcceptErrorKind::Connection, "{errno}");
        }
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(of(errno), AcceptErrorKind::Exhausted, "{errno}");
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK, libc::EFAULT] {
            assert_eq!(of(errno), AcceptErrorKind::Listener, "{errno}");
        }
        let own = io::Error::other("not of the system");
        assert_eq!(AcceptErrorKind::from_error(&own), AcceptErrorKind::Listener);
        let no_address = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(AcceptErrorKind::from_error(&no_address), AcceptErrorKind::Connection);
    }
}
