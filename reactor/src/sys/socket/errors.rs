//! Errors of sockets that have no stable [`ErrorKind`](io::ErrorKind).

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
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

/// Reports whether the system has no room for a datagram at present, though the socket counts as
/// writable.
///
/// # Platform
/// The BSDs say so of Unix datagrams when the receiver's queue is full; Linux blocks instead.
pub fn is_out_of_buffers(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final() {
        assert!(is_in_progress(&io::Error::from_raw_os_error(libc::EINPROGRESS)));
        assert!(!is_in_progress(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
    }
}
