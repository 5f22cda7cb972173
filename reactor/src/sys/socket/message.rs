//! Messages with their senders' addresses.

use std::io::{self, IoSliceMut};
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::cvt::cvt_size;

/// A received message. Its bytes are in the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// The number of bytes in the buffer.
    pub len: usize,
    /// Whether the message was longer than the buffer. The rest of it is lost.
    pub is_truncated: bool,
    /// The sender's address, if it is an internet address.
    pub from: Option<SocketAddr>,
}

/// Receives a message. With `peek`, the message stays in the socket.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is no message; other errors of recvmsg(2).
///
/// # References
/// [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
pub fn recv_msg(fd: BorrowedFd<'_>, buf: &mut [u8], peek: bool) -> io::Result<Received> {
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
        len: n_bytes,
        is_truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        from: decode(&from, message.msg_namelen),
    })
}

/// Reads from a stream without removing the bytes.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing to read; other errors of recv(2).
///
/// # References
/// `MSG_PEEK` in [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
pub fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buf` is valid for writes of its length, and `fd` is open while it is borrowed.
    let n_bytes =
        unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_PEEK) };
    cvt_size(n_bytes)
}

pub(super) fn no_address() -> libc::sockaddr_storage {
    // SAFETY: it is made of numbers, for which zero is a value.
    unsafe { mem::zeroed() }
}

pub(super) fn no_message() -> libc::msghdr {
    // SAFETY: it is made of numbers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// Decodes an address that the system has written. Returns `None` if it is not an internet address.
pub(super) fn decode(place: &libc::sockaddr_storage, size: libc::socklen_t) -> Option<SocketAddr> {
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

    use super::*;

    #[test]
    fn a_message_has_its_sender_and_whether_it_was_truncated() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for bytes in [&b""[..], b"four", b"longer than that"] {
            sender.send_to(bytes, receiver.local_addr().unwrap()).unwrap();
            let mut buf = [0; 4];
            for peek in [true, false] {
                let received = recv_msg(receiver.as_fd(), &mut buf, peek).unwrap();
                assert_eq!(received.len, bytes.len().min(4));
                assert_eq!(received.is_truncated, bytes.len() > 4);
                assert_eq!(received.from, Some(sender.local_addr().unwrap()));
            }
        }
    }
}
