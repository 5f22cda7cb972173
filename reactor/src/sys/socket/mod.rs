//! What the standard library has no stable word for, about sockets and pipes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

use crate::sys::cvt::cvt;
#[cfg(not(target_vendor = "apple"))]
use crate::sys::cvt::explain;
#[cfg(not(target_vendor = "apple"))]
use crate::sys::refusal::{Refusal, is_refusal, is_refused};

use kind::{Kind, kind_of};

pub(crate) mod find;

pub(crate) mod kind;

pub(crate) mod message;

pub(crate) mod sigpipe;

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

/// The flag of a send that makes a closed peer an error and not a `SIGPIPE`.
///
/// # Platform
/// On macOS it is a property of the socket (`SO_NOSIGPIPE`), and the flag is empty.
#[cfg(not(target_vendor = "apple"))]
pub const NO_SIGNAL: c_int = libc::MSG_NOSIGNAL;

/// The flag of a send that makes a closed peer an error and not a `SIGPIPE`.
#[cfg(target_vendor = "apple")]
pub const NO_SIGNAL: c_int = 0;

/// The number of slices that one vectored read or write takes: more are refused, with `EINVAL` or
/// `EMSGSIZE`.
///
/// # References
/// `IOV_MAX` in [readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html): 1,024 on Linux, macOS
/// and the BSDs.
pub const MAX_SLICES: usize = 1_024;

/// The flag with which a FIFO is opened so that neither the opening nor anything after it blocks.
pub const OPEN_NONBLOCK: c_int = libc::O_NONBLOCK;

/// The flag with which a file is opened only if its path's last part is not a symbolic link.
pub const OPEN_NOFOLLOW: c_int = libc::O_NOFOLLOW;

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

/// Returns the index of a network device, as in the zone of an IPv6 address: `eth0` in
/// `fe80::1%eth0`.
///
/// # Errors
/// `InvalidInput` for a name with a NUL inside; the error of `if_nametoindex`, such as `ENODEV`
/// for a device that does not exist.
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

/// The longest time for which closing a socket may wait (`SO_LINGER`), in seconds.
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

/// Returns how many descriptors this process may have open: the soft limit `RLIMIT_NOFILE`. `None` if
/// there is no limit.
///
/// # References
/// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
pub fn max_descriptors() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for a write.
    cvt(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }).ok()?;
    (limit.rlim_cur != libc::RLIM_INFINITY).then(|| limit.rlim_cur.try_into().ok()).flatten()
}

/// Reports whether the system has no room for a datagram at present, though the socket counts as
/// writable.
///
/// # Platform
/// The BSDs say so of Unix datagrams when the receiver's queue is full; Linux blocks instead.
pub fn is_out_of_buffers(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Reports whether a selector can tell when `fd` is ready: files and directories on a disk count
/// as ready always, and reading them blocks all the same.
///
/// # Errors
/// What the system says.
///
/// # References
/// [fstat(2)](https://man7.org/linux/man-pages/man2/stat.2.html).
pub fn is_pollable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(kind_of(fd)? != Kind::File)
}

/// Names the process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Asks who was at the other end of a Unix socket when it was connected, or when the pair was
/// made.
///
/// # Errors
/// What the system says: a socket without a peer has no credentials.
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

/// Makes sense of what Linux reports of a peer.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn decode(libc::ucred { pid, uid, gid }: libc::ucred) -> io::Result<Credentials> {
    if (uid, gid) == (libc::uid_t::MAX, libc::gid_t::MAX) {
        // No user has this number: the socket was never connected.
        return Err(io::ErrorKind::NotConnected.into());
    }
    // A process that this one's PID namespace does not contain has no number here.
    Ok(Credentials { uid, gid, pid: (pid != 0).then_some(pid) })
}

/// Asks who was at the other end of a Unix socket when it was connected.
///
/// # Errors
/// What the system says: a socket without a peer has no credentials.
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

/// Lets a listener take data with a connection request, from clients that were here before; up
/// to `queue` of such connections may be half open. Zero turns it off.
///
/// # Errors
/// `Unsupported` where the system lacks it; what the system says.
///
/// # References
/// `TCP_FASTOPEN` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html), RFC 7413.
pub fn set_fast_open(fd: BorrowedFd<'_>, queue: c_int) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return set_tcp_option(fd, libc::TCP_FASTOPEN, queue);
    #[cfg(target_vendor = "apple")]
    return set_tcp_option(fd, libc::TCP_FASTOPEN, c_int::from(queue != 0));
    #[allow(unreachable_code, reason = "where the option is known, it was tried above")]
    no_fast_open(fd, queue)
}

/// Sends the first data with the connection request, to servers that allowed it before.
///
/// # Errors
/// `Unsupported` where the system lacks it; what the system says.
///
/// # References
/// `TCP_FASTOPEN_CONNECT` in [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
pub fn set_fast_open_connect(fd: BorrowedFd<'_>, fast_open: bool) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return set_tcp_option(fd, libc::TCP_FASTOPEN_CONNECT, c_int::from(fast_open));
    #[allow(unreachable_code, reason = "where the option is known, it was tried above")]
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

/// Sends up to `max_bytes` of a file, from `offset` on, without copying them through the program.
///
/// # Errors
/// `WouldBlock` if nothing can be sent now; [`Unsupported`](io::ErrorKind::Unsupported) where the call
/// is refused, as by a sandbox; any other error of the call.
///
/// # Platform
/// Linux. The call may raise `SIGPIPE`: see [`NoSignal`](sigpipe::NoSignal). Offsets have 64 bits
/// on every processor.
///
/// # References
/// [sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html).
#[cfg(any(target_os = "linux", target_os = "android"))]
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
        crate::sys::cvt::cvt_size(unsafe { libc::sendfile64(to, file, &mut offset, max_bytes) })
    };
    REFUSAL.or_else(
        || call(to.as_raw_fd(), file.as_raw_fd()),
        || call(-1, -1),
        || Err(io::Error::new(io::ErrorKind::Unsupported, "sendfile is refused, as by a sandbox")),
    )
}

/// Moves up to `max_bytes` from one descriptor to another inside the kernel. One of them has to
/// be a pipe.
///
/// # Errors
/// `WouldBlock` if nothing can be moved now; `InvalidInput` for descriptors that cannot do it;
/// [`Unsupported`](io::ErrorKind::Unsupported) where the call is refused, as by a sandbox; any other
/// error of the call.
///
/// # Platform
/// Linux.
///
/// # References
/// [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, max_bytes: usize) -> io::Result<usize> {
    static REFUSAL: Refusal = Refusal::new();
    let call = |from: c_int, to: c_int| {
        let none = std::ptr::null_mut();
        let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
        // SAFETY: without offsets no memory of ours is touched; a number that is not open is an
        // error, no harm.
        crate::sys::cvt::cvt_size(unsafe { libc::splice(from, none, to, none, max_bytes, flags) })
    };
    REFUSAL.or_else(
        || call(from.as_raw_fd(), to.as_raw_fd()),
        || call(-1, -1),
        || Err(io::Error::new(io::ErrorKind::Unsupported, "splice is refused, as by a sandbox")),
    )
}

/// Asks for a pipe that holds `n_bytes`, and returns what it holds.
///
/// # Errors
/// What the system says: beyond `fs.pipe-max-size`, or when a user's pipes hold too much already,
/// it is `PermissionDenied`, and the pipe stays as it is.
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
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_refusal_is_final() {
        assert!(is_in_progress(&io::Error::from_raw_os_error(libc::EINPROGRESS)));
        assert!(!is_in_progress(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_peer_without_a_number_here_still_has_its_user() {
        let ucred = |pid, uid, gid| libc::ucred { pid, uid, gid };
        assert_eq!(decode(ucred(7, 0, 5)).unwrap(), Credentials { uid: 0, gid: 5, pid: Some(7) });
        assert_eq!(decode(ucred(0, 0, 5)).unwrap(), Credentials { uid: 0, gid: 5, pid: None });
        let error = decode(ucred(0, libc::uid_t::MAX, libc::gid_t::MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }

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

    #[test]
    fn a_device_is_found_by_its_name() {
        let loopback =
            if cfg!(any(target_os = "linux", target_os = "android")) { "lo" } else { "lo0" };
        assert_ne!(device_index(loopback).unwrap(), 0);
        assert!(device_index("no such device").is_err());
        assert_eq!(device_index("l\0o").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn files_and_directories_are_not_pollable_and_pipes_are() {
        let file = std::fs::File::open("Cargo.toml").unwrap();
        let directory = std::fs::File::open(".").unwrap();
        let (reader, _writer) = io::pipe().unwrap();
        assert!(!is_pollable(file.as_fd()).unwrap());
        assert!(!is_pollable(directory.as_fd()).unwrap());
        assert!(is_pollable(reader.as_fd()).unwrap());
    }
}
