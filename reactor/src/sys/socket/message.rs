//! Messages: with a sender's address, with descriptors on board, many at a time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::NO_SIGNAL;
use crate::sys::cvt::cvt_size;

/// The most descriptors that one message carries.
///
/// Linux's `SCM_MAX_FD`; the BSDs allow about twice as many.
pub const MAX_PASSED_FDS: usize = 253;

/// Received descriptors are close-on-exec from the system's hand, where it can do that.
#[cfg(not(target_vendor = "apple"))]
const RECEIVE_CLOEXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;

#[cfg(target_vendor = "apple")]
const RECEIVE_CLOEXEC: libc::c_int = 0;

/// Describes a received message, whose bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How much of the buffer is filled.
    pub n_bytes: usize,
    /// The message was longer than the buffer, and the rest of it is gone.
    pub is_truncated: bool,
    /// Who sent it, if it came from an internet address.
    pub from: Option<SocketAddr>,
}

/// Receives a message, or looks at it without taking it.
///
/// # Errors
/// What the system says.
///
/// # References
/// [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
pub fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], peek: bool) -> io::Result<Received> {
    let mut from = no_address();
    let mut room = IoSliceMut::new(buf);
    let mut message = no_message();
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = (&raw mut room).cast();
    message.msg_iovlen = 1;
    let flags = if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY:
    // 1. The name and the one buffer are valid for writes of the sizes given with them, and live
    //    until the call returns; an `IoSliceMut` is an `iovec`.
    // 2. `fd` is open while it is borrowed.
    let n_bytes = cvt_size(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) })?;
    Ok(Received {
        n_bytes,
        is_truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        from: decode(&from, message.msg_namelen),
    })
}

/// Looks at what a stream would read next, without taking it.
///
/// # Errors
/// What the system says.
///
/// # References
/// `MSG_PEEK` in [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
pub fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writes of its length, and `fd` is open while it is borrowed.
    let n_bytes =
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_PEEK) };
    cvt_size(n_bytes)
}

/// Sends bytes, and with them copies of descriptors, over a Unix socket.
///
/// The receiver gets the descriptors with the first of the bytes, so there has to be one.
///
/// # Errors
/// `InvalidInput` if there is no byte, or more than [`MAX_PASSED_FDS`] descriptors; what the
/// system says.
///
/// # References
/// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn send_with_fds(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    if bytes.is_empty() {
        let message = "descriptors travel with at least one byte";
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
        // SAFETY: `header` points to the begin of the control buffer, see above.
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

/// Describes received bytes and the descriptors that came with them.
#[derive(Debug)]
pub struct ReceivedFds {
    /// How much of the buffer is filled.
    pub n_bytes: usize,
    /// The descriptors, close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// There were more descriptors than there was room for, and the rest was closed.
    pub is_truncated: bool,
}

/// Receives bytes, and up to `max_fds` descriptors that travel with them, over a Unix socket.
///
/// Each descriptor is owned as soon as it is received, so that none leaks. Other control data that
/// the socket asks for (credentials, timestamps, a security label of up to 256 bytes) takes no room
/// from the descriptors and is discarded; a process descriptor (`SO_PASSPIDFD`) is closed.
///
/// # Errors
/// The error of `recvmsg`, such as `WouldBlock`.
///
/// # Platform
/// On macOS close-on-exec is set after the descriptor was received.
///
/// # References
/// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
pub fn receive_with_fds(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    max_fds: usize,
) -> io::Result<ReceivedFds> {
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
    Ok(ReceivedFds { n_bytes, fds, is_truncated })
}

/// The type of a control message that holds one descriptor: that of the sending process.
///
/// Linux has it since 6.5; libc does not name it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SCM_PIDFD: libc::c_int = 4;

/// Takes ownership of the descriptors in a message that recvmsg has filled, closes those that
/// nobody has passed, and returns the others.
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
            crate::sys::cvt::cvt(result)?;
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
            // SAFETY: the system has just opened it for us, and nobody else knows it.
            fds.push(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// The room for control data that a socket may ask for beside descriptors.
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
        Control::of(n_bytes as usize)
    }

    fn with_room_to_receive(n_fds: usize) -> Control {
        // SAFETY: as above.
        let n_bytes = unsafe { libc::CMSG_SPACE((n_fds * size_of::<RawFd>()) as libc::c_uint) };
        Control::of(n_bytes as usize + OTHER_CONTROL)
    }

    fn of(n_bytes: usize) -> Control {
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

/// Receives as many messages as are there, up to the number of buffers, and describes each.
///
/// # Errors
/// What the system says of the first; an error that comes later is told by the next call.
///
/// # Platform
/// One system call for 32 messages on Linux; elsewhere one for each.
///
/// # References
/// [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html).
pub fn receive_many(
    fd: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
    received: &mut Vec<Received>,
) -> io::Result<usize> {
    many::receive(fd, bufs, received)
}

/// Sends several messages, each to its own address, and returns how many were sent.
///
/// # Errors
/// What the system says of the first; an error that comes later is told by the next call.
///
/// # Platform
/// One system call for 32 messages on Linux; elsewhere `send_one` is called for each.
///
/// # References
/// [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
pub fn send_many(
    fd: BorrowedFd<'_>,
    messages: &[(&[u8], SocketAddr)],
    send_one: impl FnMut(&[u8], SocketAddr) -> io::Result<usize>,
) -> io::Result<usize> {
    many::send(fd, messages, send_one)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod many {
    use super::*;
    use crate::sys::cvt::cvt;
    use crate::sys::refusal::Refusal;

    /// The messages of one system call: 32 spread its cost, and their headers fit on the stack.
    const BATCH: usize = 32;

    static RECEIVING: Refusal = Refusal::new();
    static SENDING: Refusal = Refusal::new();

    pub(super) fn receive(
        fd: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<usize> {
        let mut from = [no_address(); BATCH];
        let mut headers = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; BATCH];
        let n = bufs.len().min(BATCH);
        for ((header, from), buf) in headers.iter_mut().zip(&mut from).zip(&mut *bufs) {
            header.msg_hdr.msg_name = (&raw mut *from).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = (&raw mut *buf).cast();
            header.msg_hdr.msg_iovlen = 1;
        }
        let (first, none) = (headers.as_mut_ptr(), std::ptr::null_mut());
        let call = |fd: RawFd| {
            // SAFETY: the first `n` headers are filled in: each points to one address and one buffer,
            // valid for writes of the sizes given with them, that live until the call returns. A
            // number that is not open is an error, no harm.
            cvt(unsafe {
                libc::recvmmsg(fd, first, n as libc::c_uint, libc::MSG_DONTWAIT as _, none)
            })
            .map(|n_received| n_received as usize)
        };
        if let Some(n_received) = RECEIVING.call(|| call(fd.as_raw_fd()), || call(-1)) {
            let n_received = n_received?;
            for (header, from) in headers.iter().zip(&from).take(n_received) {
                received.push(Received {
                    n_bytes: header.msg_len as usize,
                    is_truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                    from: decode(from, header.msg_hdr.msg_namelen),
                });
            }
            return Ok(n_received);
        }
        one_by_one::receive(fd, bufs, received)
    }

    pub(super) fn send(
        fd: BorrowedFd<'_>,
        messages: &[(&[u8], SocketAddr)],
        send_one: impl FnMut(&[u8], SocketAddr) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut to = [no_address(); BATCH];
        let mut bufs = [IoSlice::new(&[]); BATCH];
        let mut headers = [libc::mmsghdr { msg_hdr: no_message(), msg_len: 0 }; BATCH];
        let n = messages.len().min(BATCH);
        let places = headers.iter_mut().zip(&mut to).zip(&mut bufs);
        for (((header, to), buf), (bytes, addr)) in places.zip(messages) {
            *buf = IoSlice::new(bytes);
            header.msg_hdr.msg_namelen = encode(*addr, to);
            header.msg_hdr.msg_name = (&raw mut *to).cast();
            header.msg_hdr.msg_iov = (&raw mut *buf).cast();
            header.msg_hdr.msg_iovlen = 1;
        }
        let first = headers.as_mut_ptr();
        let call = |fd: RawFd| {
            // SAFETY: the first `n` headers are filled in: each points to one address and one buffer,
            // valid for reads of the sizes given with them, that live until the call returns. A
            // number that is not open is an error, no harm.
            cvt(unsafe { libc::sendmmsg(fd, first, n as libc::c_uint, NO_SIGNAL as _) })
                .map(|n_sent| n_sent as usize)
        };
        SENDING.or_else(
            || call(fd.as_raw_fd()),
            || call(-1),
            || one_by_one::send(fd, messages, send_one),
        )
    }

    /// Writes an address the way the system wants it, and returns its size.
    fn encode(addr: SocketAddr, place: &mut libc::sockaddr_storage) -> libc::socklen_t {
        match addr {
            SocketAddr::V4(addr) => {
                let encoded = libc::sockaddr_in {
                    sin_family: libc::AF_INET as _,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: a `sockaddr_storage` has the size and the alignment for any address.
                unsafe { (&raw mut *place).cast::<libc::sockaddr_in>().write(encoded) };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(addr) => {
                let encoded = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as _,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut *place).cast::<libc::sockaddr_in6>().write(encoded) };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn an_address_survives_encoding() {
            for text in ["127.0.0.1:80", "255.1.2.3:65535", "[::1]:80", "[fe80::1%7]:1"] {
                let addr: SocketAddr = text.parse().unwrap();
                let mut place = no_address();
                let size = encode(addr, &mut place);
                assert_eq!(decode(&place, size), Some(addr));
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use one_by_one as many;

/// With a system call for each message.
mod one_by_one {
    use super::*;

    pub(super) fn receive(
        fd: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<usize> {
        count(bufs.iter_mut(), |buf| super::receive(fd, buf, false).map(|one| received.push(one)))
    }

    pub(super) fn send(
        _fd: BorrowedFd<'_>,
        messages: &[(&[u8], SocketAddr)],
        mut send_one: impl FnMut(&[u8], SocketAddr) -> io::Result<usize>,
    ) -> io::Result<usize> {
        count(messages.iter(), |(bytes, addr)| send_one(bytes, *addr).map(drop))
    }

    /// Counts the successes before the first failure, which is told if it is the very first.
    fn count<T>(
        items: impl Iterator<Item = T>,
        mut one: impl FnMut(T) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut n = 0;
        for item in items {
            match one(item) {
                Ok(()) => n += 1,
                Err(error) if n == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(n)
    }
}

fn no_address() -> libc::sockaddr_storage {
    // SAFETY: it is made of numbers, for which zero is a value.
    unsafe { mem::zeroed() }
}

fn no_message() -> libc::msghdr {
    // SAFETY: it is made of numbers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// Reads an address that the system has written; none if it is not of the internet.
fn decode(place: &libc::sockaddr_storage, size: libc::socklen_t) -> Option<SocketAddr> {
    let size = size as usize;
    match libc::c_int::from(place.ss_family) {
        libc::AF_INET if size >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says what it is, and a `sockaddr_storage` is aligned for it.
            let addr = unsafe { (&raw const *place).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(addr.sin_port)).into())
        }
        libc::AF_INET6 if size >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above.
            let addr = unsafe { (&raw const *place).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
            let port = u16::from_be(addr.sin6_port);
            Some(SocketAddrV6::new(ip, port, addr.sin6_flowinfo, addr.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_message_tells_its_sender_and_whether_it_was_cut() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for bytes in [&b""[..], b"four", b"longer than that"] {
            sender.send_to(bytes, receiver.local_addr().unwrap()).unwrap();
            let mut buf = [0; 4];
            for peek in [true, false] {
                let received = receive(receiver.as_fd(), &mut buf, peek).unwrap();
                assert_eq!(received.n_bytes, bytes.len().min(4));
                assert_eq!(received.is_truncated, bytes.len() > 4);
                assert_eq!(received.from, Some(sender.local_addr().unwrap()));
            }
        }
    }

    #[test]
    fn descriptors_beyond_the_room_are_not_leaked() {
        let (one, other) = UnixStream::pair().unwrap();
        let passed = [one.as_fd(); 5];
        send_with_fds(one.as_fd(), b"x", &passed).unwrap();
        let mut buf = [0; 8];
        let received = receive_with_fds(other.as_fd(), &mut buf, 2).unwrap();
        assert_eq!((received.n_bytes, received.fds.len(), received.is_truncated), (1, 2, true));
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
        fn what_the_receiver_has_asked_for_costs_no_descriptor_and_leaks_none() {
            let options = [libc::SO_PASSCRED, SO_PASSPIDFD, libc::SO_PASSSEC, libc::SO_TIMESTAMP];
            for chosen in 0..1 << options.len() {
                let (one, other) = UnixStream::pair().unwrap();
                for (i, option) in options.iter().enumerate() {
                    if chosen & (1 << i) != 0 && !switch_on(&other, *option) {
                        println!("left out: this kernel does not know option {option}");
                    }
                }
                let before = n_pidfds();
                for (n_sent, max_fds) in
                    [(0, 0), (0, 3), (1, 0), (1, 1), (3, 2), (3, 3), (3, 4), (3, 30), (253, 253)]
                {
                    send_with_fds(one.as_fd(), b"x", &vec![one.as_fd(); n_sent]).unwrap();
                    let received = receive_with_fds(other.as_fd(), &mut [0; 8], max_fds).unwrap();
                    let case = format!("options {chosen:b}, {n_sent} sent, room for {max_fds}");
                    assert_eq!(received.n_bytes, 1, "{case}");
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
        let error = send_with_fds(one.as_fd(), b"", &[one.as_fd()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let many = [one.as_fd(); MAX_PASSED_FDS + 1];
        let error = send_with_fds(one.as_fd(), b"x", &many).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
