//! What the standard library has no stable word for, about sockets.

use std::io;

/// Reports whether a non-blocking `connect` goes on in the background.
///
/// Interrupted, it does as well; calling again would be an error.
///
/// # Platform
/// `EINPROGRESS` has no stable [`ErrorKind`](io::ErrorKind).
///
/// # References
/// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub fn connect_goes_on(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final() {
        assert!(connect_goes_on(&io::Error::from_raw_os_error(libc::EINPROGRESS)));
        assert!(!connect_goes_on(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
    }
}
