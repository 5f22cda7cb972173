//! Descriptors that are passed with messages over Unix sockets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::NO_SIGNAL;
use super::message::no_message;
use crate::sys::cvt::{cvt, cvt_size};

/// The largest number of descriptors in one message.
///
/// Linux's `SCM_MAX_FD`; the BSDs allow about twice as many.
pub const MAX_PASSED_FDS: usize = 253;

/// Makes received descriptors close-on-exec, where the system can do that.
#[cfg(not(target_vendor = "apple"))]
const RECEIVE_CLOEXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;

#[cfg(target_vendor = "apple")]
const RECEIVE_CLOEXEC: libc::c_int = 0;

/// Sends bytes with copies of descriptors over a Unix socket.
///
/// The receiver gets the descriptors with the first byte, so there must be at least one.
///
/// # Errors
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no byte, or more than [`MAX_PASSED_FDS`]
/// descriptors; [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; other errors of sendmsg(2).
///
/// # References
/// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn send_fds(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() {
        let message = "descriptors are passed with at least one byte";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if fds.len() > MAX_PASSED_FDS {
        let message = "one message carries 253 descriptors at most";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut bytes = IoSlice::new(bytes);
    let mut control = Control::with_room(fds.len());
    let mut message = no_message();
    message.msg_iov = (&raw mut bytes).cast();
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        control.attach(&mut message);
        // SAFETY: the message's control buffer is valid, aligned, and larger than one header.
        let header = unsafe { libc::CMSG_FIRSTHDR(&message) };
        // SAFETY: it is made of numbers, for which zero is a value.
        let mut rights: libc::cmsghdr = unsafe { mem::zeroed() };
        rights.cmsg_level = libc::SOL_SOCKET;
        rights.cmsg_type = libc::SCM_RIGHTS;
        rights.cmsg_len = rights_length(fds.len()) as _;
        // SAFETY: `header` points to the start of the control buffer, see above.
        unsafe { header.write(rights) };
        // SAFETY: `header` points to a header that is followed by room for its data.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (i, passed) in fds.iter().enumerate() {
            // SAFETY: the buffer has room for as many numbers as there are.
            let place = unsafe { data.add(i) };
            // SAFETY: as above; the place need not be aligned.
            unsafe { place.write_unaligned(passed.as_raw_fd()) };
        }
    }
    // SAFETY: all that the message points to is valid for reads of the sizes given with it, and
    // lives until the call returns; an `IoSlice` is an `iovec`.
    cvt_size(unsafe { libc::sendmsg(fd.as_raw_fd(), &message, NO_SIGNAL) })
}

/// Received bytes and the descriptors that were passed with them.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReceivedFds {
    /// The number of bytes in the buffer.
    pub len: usize,
    /// The descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Whether there were more descriptors than requested. The others have been closed.
    pub is_truncated: bool,
}

/// Receives bytes and up to `max_fds` descriptors over a Unix socket.
///
/// Each descriptor is owned as soon as it is received, so that none leaks. Other control data that
/// the socket requests (credentials, timestamps, a security label of up to 256 bytes) takes no room
/// from the descriptors and is discarded; a process descriptor (`SO_PASSPIDFD`) is closed.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing to read; other errors of recvmsg(2).
///
/// # Platform
/// On macOS, close-on-exec is set after the descriptor has been received.
///
/// # References
/// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn recv_fds(fd: BorrowedFd<'_>, buf: &mut [u8], max_fds: usize) -> io::Result<ReceivedFds> {
    let mut room = IoSliceMut::new(buf);
    let mut control = Control::with_room_to_receive(max_fds.min(MAX_PASSED_FDS));
    let mut message = no_message();
    message.msg_iov = (&raw mut room).cast();
    message.msg_iovlen = 1;
    control.attach(&mut message);
    // SAFETY: all that the message points to is valid for writes of the sizes given with it, and
    // lives until the call returns; an `IoSliceMut` is an `iovec`.
    let received = unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, RECEIVE_CLOEXEC) };
    let n_bytes = cvt_size(received)?;
    let mut fds = take_fds(&message)?;
    // Room that other control data has left unused may hold further descriptors.
    let is_truncated = fds.len() > max_fds || message.msg_flags & libc::MSG_CTRUNC != 0;
    fds.truncate(max_fds);
    Ok(ReceivedFds { len: n_bytes, fds, is_truncated })
}

/// The type of a control message that holds one descriptor: that of the sending process.
///
/// Linux has it since 6.5; libc does not name it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SCM_PIDFD: libc::c_int = 4;

/// Takes ownership of the descriptors in a message that recvmsg has filled, closes those that the kernel has
/// added, and returns the others.
fn take_fds(message: &libc::msghdr) -> io::Result<Vec<OwnedFd>> {
    let mut fds = Vec::new();
    // SAFETY: the message was filled by the system, so its control data is well formed.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a header inside the control buffer.
        let cmsg = unsafe { header.read_unaligned() };
        let is_of_sockets = cmsg.cmsg_level == libc::SOL_SOCKET;
        if is_of_sockets && cmsg.cmsg_type == libc::SCM_RIGHTS {
            take_fds_of(header, &cmsg, &mut fds);
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if is_of_sockets && cmsg.cmsg_type == SCM_PIDFD {
            take_fds_of(header, &cmsg, &mut Vec::new());
        }
        // SAFETY: both belong to the same well-formed message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    if RECEIVE_CLOEXEC == 0 {
        for fd in &fds {
            // SAFETY: `fd` is open: we own it.
            let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
            cvt(result)?;
        }
    }
    Ok(fds)
}

/// Takes ownership of the descriptors in one control message. `header` points to `cmsg` in the
/// buffer that recvmsg has filled, and the message holds descriptors.
fn take_fds_of(header: *const libc::cmsghdr, cmsg: &libc::cmsghdr, fds: &mut Vec<OwnedFd>) {
    #[allow(clippy::unnecessary_cast, reason = "it is a `socklen_t` on most systems")]
    let n_bytes = (cmsg.cmsg_len as usize).saturating_sub(rights_length(0));
    // SAFETY: `header` points to a header that is followed by its data.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
    for i in 0..n_bytes / size_of::<RawFd>() {
        // SAFETY: the header says that this many numbers follow.
        let place = unsafe { data.add(i) };
        // SAFETY: as above; the place need not be aligned.
        let number = unsafe { place.read_unaligned() };
        // The kernel reports a process that has no descriptor as a negative error.
        if number >= 0 {
            // SAFETY: the system has just opened it for us, and nothing else owns it.
            fds.push(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// The room for control data that a socket may request besides descriptors.
///
/// Linux puts credentials (12 bytes), a security label (of any length, commonly below 100 bytes)
/// and timestamps (16 and 48 bytes) before the descriptors, and the descriptor of the sending
/// process behind them; with each comes a header of 16 bytes. FreeBSD's credentials are the
/// longest of the BSDs', with 84 bytes. Without room for these, the descriptors are lost.
const OTHER_CONTROL: usize = 512;

/// Room for the descriptors of a message, aligned as its header has to be.
struct Control {
    words: Vec<u64>,
    n_bytes: usize,
}

impl Control {
    fn with_room(n_fds: usize) -> Control {
        // SAFETY: it only computes. A few hundred numbers do not overflow.
        let n_bytes = unsafe { libc::CMSG_SPACE((n_fds * size_of::<RawFd>()) as libc::c_uint) };
        Control::with_bytes(n_bytes as usize)
    }

    fn with_room_to_receive(n_fds: usize) -> Control {
        // SAFETY: as above.
        let n_bytes = unsafe { libc::CMSG_SPACE((n_fds * size_of::<RawFd>()) as libc::c_uint) };
        Control::with_bytes(n_bytes as usize + OTHER_CONTROL)
    }

    fn with_bytes(n_bytes: usize) -> Control {
        Control { words: vec![0; n_bytes.div_ceil(size_of::<u64>())], n_bytes }
    }

    fn attach(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.words.as_mut_ptr().cast();
        message.msg_controllen = self.n_bytes as _;
    }
}

/// The length of a control message's header and `n_fds` descriptors.
fn rights_length(n_fds: usize) -> usize {
    // SAFETY: it only computes. A few hundred numbers do not overflow.
    let length = unsafe { libc::CMSG_LEN((n_fds * size_of::<RawFd>()) as libc::c_uint) };
    length as usize
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_beyond_the_room_are_not_leaked() {
        let (one, other) = UnixStream::pair().unwrap();
        let passed = [one.as_fd(); 5];
        send_fds(one.as_fd(), b"x", &passed).unwrap();
        let mut buf = [0; 8];
        let received = recv_fds(other.as_fd(), &mut buf, 2).unwrap();
        assert_eq!((received.len, received.fds.len(), received.is_truncated), (1, 2, true));
        for fd in &received.fds {
            // SAFETY: `fd` is open: it is owned.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    /// What makes the kernel put more than descriptors into a control buffer.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    mod extras {
        use super::*;
        use crate::sys::cvt::cvt;

        const SO_PASSPIDFD: libc::c_int =
            if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x55 } else { 76 };

        /// Switches an option on, and reports whether the kernel has it.
        fn switch_on(socket: &UnixStream, option: libc::c_int) -> bool {
            let on: libc::c_int = 1;
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            let (fd, on) = (socket.as_raw_fd(), (&raw const on).cast());
            // SAFETY: `on` is valid for a read of `size` bytes, and the socket is open.
            cvt(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, on, size) }).is_ok()
        }

        /// Counts this process's descriptors of processes.
        fn n_pidfds() -> usize {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap();
            let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
        }

        #[test]
        fn requested_control_data_costs_no_descriptor_and_leaks_none() {
            let options = [libc::SO_PASSCRED, SO_PASSPIDFD, libc::SO_PASSSEC, libc::SO_TIMESTAMP];
            for chosen in 0..1 << options.len() {
                let (one, other) = UnixStream::pair().unwrap();
                for (i, option) in options.iter().enumerate() {
                    if chosen & (1 << i) != 0 && !switch_on(&other, *option) {
                        println!("skipped: this kernel does not know option {option}");
                    }
                }
                let before = n_pidfds();
                for (n_sent, max_fds) in
                    [(0, 0), (0, 3), (1, 0), (1, 1), (3, 2), (3, 3), (3, 4), (3, 30), (253, 253)]
                {
                    send_fds(one.as_fd(), b"x", &vec![one.as_fd(); n_sent]).unwrap();
                    let received = recv_fds(other.as_fd(), &mut [0; 8], max_fds).unwrap();
                    let case = format!("options {chosen:b}, {n_sent} sent, room for {max_fds}");
                    assert_eq!(received.len, 1, "{case}");
                    assert_eq!(received.fds.len(), n_sent.min(max_fds), "{case}");
                    assert_eq!(received.is_truncated, n_sent > max_fds, "{case}");
                    for fd in &received.fds {
                        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
                        let link = std::fs::read_link(link).unwrap();
                        assert!(link.to_string_lossy().starts_with("socket:"), "{link:?}, {case}");
                    }
                }
                assert_eq!(n_pidfds(), before, "options {chosen:b}");
            }
        }
    }

    #[test]
    fn descriptors_without_a_byte_are_refused() {
        let (one, _other) = UnixStream::pair().unwrap();
        let error = send_fds(one.as_fd(), b"", &[one.as_fd()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let many = [one.as_fd(); MAX_PASSED_FDS + 1];
        let error = send_fds(one.as_fd(), b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
