//! Several messages with one system call.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::message::{self, Received};

/// Receives the messages that are waiting, at most one for each buffer, and appends a description of each.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no message; other errors of the first message. The
/// error of a later message is returned by the next call.
///
/// # Platform
/// Makes one system call for 32 messages on Linux, and one for each message elsewhere.
///
/// # References
/// [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html).
pub fn recv_many(
    fd: BorrowedFd<'_>,
    bufs: &mut [IoSliceMut<'_>],
    received: &mut Vec<Received>,
) -> io::Result<usize> {
    system::receive(fd, bufs, received)
}

/// Sends several messages, each to its address, and returns the number of messages sent.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no room; other errors of the first message. The error of
/// a later message is returned by the next call.
///
/// # Platform
/// Makes one system call for 32 messages on Linux, and calls `send_one` for each message elsewhere.
///
/// # References
/// [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
pub fn send_many(
    fd: BorrowedFd<'_>,
    messages: &[(&[u8], SocketAddr)],
    send_one: impl FnMut(&[u8], SocketAddr) -> io::Result<usize>,
) -> io::Result<usize> {
    system::send(fd, messages, send_one)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::io::IoSlice;
    use std::os::fd::{AsRawFd, RawFd};

    use super::*;
    use crate::sys::cvt::cvt;
    use crate::sys::refusal::Refusal;
    use crate::sys::socket::NO_SIGNAL;
    use message::{decode, no_address, no_message};

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
                    len: header.msg_len as usize,
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

    /// Encodes an address for the system and returns its size.
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
use one_by_one as system;

/// Makes one system call for each message.
mod one_by_one {
    use super::*;

    pub(super) fn receive(
        fd: BorrowedFd<'_>,
        bufs: &mut [IoSliceMut<'_>],
        received: &mut Vec<Received>,
    ) -> io::Result<usize> {
        count(bufs.iter_mut(), |buf| {
            message::recv_msg(fd, buf, false).map(|one| received.push(one))
        })
    }

    pub(super) fn send(
        _fd: BorrowedFd<'_>,
        messages: &[(&[u8], SocketAddr)],
        mut send_one: impl FnMut(&[u8], SocketAddr) -> io::Result<usize>,
    ) -> io::Result<usize> {
        count(messages.iter(), |(bytes, addr)| send_one(bytes, *addr).map(drop))
    }

    /// Counts the successes before the first failure. Returns the failure if there was no success.
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
