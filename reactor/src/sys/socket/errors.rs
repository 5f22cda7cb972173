//! Errors of sockets that have no stable [`ErrorKind`](io::ErrorKind).

use std::io;

/// Returns whether `error` means that a non-blocking `connect` continues in the background: `EINPROGRESS`, or
/// `EINTR`, after which another call would be an error.
///
/// # References
/// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub fn is_in_progress(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR))
}

/// Returns whether `error` is `ENOBUFS`: there is no room for a datagram, although the socket is reported as
/// writable.
///
/// # Platform
/// The BSDs return it for Unix datagrams if the receiver's queue is full; Linux blocks.
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
