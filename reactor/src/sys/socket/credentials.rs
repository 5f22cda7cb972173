//! The process at the other end of a Unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::cvt::cvt;

/// The process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Credentials {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its process ID.
    ///
    /// # Platform
    /// Linux only. `None` also for a process outside this one's PID namespace, such as one of the host
    /// when this one runs in a container.
    pub pid: Option<i32>,
}

/// Returns the process that was at the other end of a Unix socket when it was connected, or when the pair
/// was created.
///
/// # Errors
/// [`NotConnected`](io::ErrorKind::NotConnected) if the socket has no peer.
///
/// # References
/// `SO_PEERCRED` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut ucred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `ucred` has room for `size` bytes, and any bytes make a `ucred`.
    cvt(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut ucred).cast(),
            &mut size,
        )
    })?;
    decode(ucred)
}

/// Interprets what Linux reports of a peer.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn decode(libc::ucred { pid, uid, gid }: libc::ucred) -> io::Result<Credentials> {
    if (uid, gid) == (libc::uid_t::MAX, libc::gid_t::MAX) {
        // No user has this number: the socket was never connected.
        return Err(io::ErrorKind::NotConnected.into());
    }
    // A process that this one's PID namespace does not contain has no number here.
    Ok(Credentials { uid, gid, pid: (pid != 0).then_some(pid) })
}

/// Returns the process that was at the other end of a Unix socket when it was connected.
///
/// # Errors
/// [`NotConnected`](io::ErrorKind::NotConnected) if the socket has no peer.
///
/// # References
/// [getpeereid(3)](https://man.freebsd.org/cgi/man.cgi?query=getpeereid).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn peer_credentials(fd: BorrowedFd<'_>) -> io::Result<Credentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both are valid for a write.
    cvt(unsafe { libc::getpeereid(fd.as_raw_fd(), &mut uid, &mut gid) })?;
    Ok(Credentials { uid, gid, pid: None })
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_a_number_here_still_has_its_user() {
        let ucred = |pid, uid, gid| libc::ucred { pid, uid, gid };
        assert_eq!(decode(ucred(7, 0, 5)).unwrap(), Credentials { uid: 0, gid: 5, pid: Some(7) });
        assert_eq!(decode(ucred(0, 0, 5)).unwrap(), Credentials { uid: 0, gid: 5, pid: None });
        let error = decode(ucred(0, libc::uid_t::MAX, libc::gid_t::MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
