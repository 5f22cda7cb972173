//! Methods that several kinds of sockets share.
//!
//! Each macro gives a type with a method `fd` a group of methods.

use std::io;
use std::os::fd::AsFd;

use polyloop_reactor::socket::Received;

/// Conversions from and to the standard library's type, for sockets without further state.
macro_rules! std_conversions {
    ($socket:ident, $std:ty) => {
        impl $socket {
            /// Creates a socket from the standard library's type, and makes it non-blocking.
            pub fn from_std(socket: $std) -> std::io::Result<$socket> {
                Ok($socket { fd: $crate::AsyncFd::new(socket)? })
            }

            /// Converts the socket into the standard library's type, in blocking mode.
            pub fn into_std(self) -> std::io::Result<$std> {
                let socket = $crate::async_fd::into_std(self.fd, <$std>::try_clone)?;
                socket.set_nonblocking(false)?;
                Ok(socket)
            }
        }
    };
}

/// The addresses and the pending error of a socket.
macro_rules! addresses {
    ($socket:ty, $addr:ty) => {
        impl $socket {
            /// Returns the local address.
            pub fn local_addr(&self) -> std::io::Result<$addr> {
                self.fd().get_ref().local_addr()
            }

            /// Returns the address of the peer.
            ///
            /// # Errors
            /// [`NotConnected`](std::io::ErrorKind::NotConnected) if the socket is not connected,
            /// or is no longer because the peer has reset the connection.
            pub fn peer_addr(&self) -> std::io::Result<$addr> {
                self.fd().get_ref().peer_addr()
            }

            /// Takes the pending error of the socket, if there is one.
            ///
            /// # References
            /// `SO_ERROR` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html).
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.fd().get_ref().take_error()
            }
        }
    };
}

/// Receiving datagrams.
macro_rules! datagrams {
    ($socket:ty, $std:ty, $addr:ty) => {
        impl $socket {
            /// Receives a datagram into `buf` and returns its size.
            ///
            /// Usually called on a connected socket; [`recv_from`](Self::recv_from) returns the
            /// sender as well. If the datagram is longer than `buf`, the excess bytes are lost;
            /// [`recv_msg`](Self::recv_msg) reports that. A size of zero is an empty datagram.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no datagram was received.
            ///
            /// # References
            /// [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
            pub async fn recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let recv = |socket: &$std| socket.recv(buf);
                self.fd().async_io(polyloop_reactor::Direction::Read, recv).await
            }

            /// Receives a datagram into `buf` and returns its size and its sender.
            ///
            /// If the datagram is longer than `buf`, the excess bytes are lost;
            /// [`recv_msg`](Self::recv_msg) reports that.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no datagram was received.
            ///
            /// # References
            /// [recvfrom(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
            pub async fn recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                let recv = |socket: &$std| socket.recv_from(buf);
                self.fd().async_io(polyloop_reactor::Direction::Read, recv).await
            }

            /// Receives a datagram that is available now, as [`recv`](Self::recv) does.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none is.
            pub fn try_recv(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let recv = |socket: &$std| socket.recv(buf);
                self.fd().try_io(polyloop_reactor::Direction::Read, recv)
            }

            /// Receives a datagram that is available now, as [`recv_from`](Self::recv_from) does.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none is.
            pub fn try_recv_from(&self, buf: &mut [u8]) -> std::io::Result<(usize, $addr)> {
                let recv = |socket: &$std| socket.recv_from(buf);
                self.fd().try_io(polyloop_reactor::Direction::Read, recv)
            }
        }
    };
}

/// Receiving messages whole, and waiting for room and for messages.
macro_rules! messages {
    ($socket:ty) => {
        impl $socket {
            /// Receives a message into `buf`, and reports its size, whether it was truncated, and
            /// its sender if that has an internet address.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no message was received.
            ///
            /// # References
            /// `MSG_TRUNC` in [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
            #[doc(alias = "recvmsg")]
            pub async fn recv_msg(
                &self,
                buf: &mut [u8],
            ) -> std::io::Result<polyloop_reactor::socket::Received> {
                let recv = |socket: &_| $crate::methods::recv_msg(socket, buf, false);
                self.fd().async_io(polyloop_reactor::Direction::Read, recv).await
            }

            /// Receives a message that is available now, as [`recv_msg`](Self::recv_msg) does.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none is.
            pub fn try_recv_msg(
                &self,
                buf: &mut [u8],
            ) -> std::io::Result<polyloop_reactor::socket::Received> {
                let recv = |socket: &_| $crate::methods::recv_msg(socket, buf, false);
                self.fd().try_io(polyloop_reactor::Direction::Read, recv)
            }

            /// Copies the next message into `buf` as [`recv_msg`](Self::recv_msg) does, but leaves
            /// it in the socket.
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the socket.
            pub async fn peek_msg(
                &self,
                buf: &mut [u8],
            ) -> std::io::Result<polyloop_reactor::socket::Received> {
                let peek = |socket: &_| $crate::methods::recv_msg(socket, buf, true);
                self.fd().async_io(polyloop_reactor::Direction::Read, peek).await
            }

            /// Copies a message that is available now, as [`peek_msg`](Self::peek_msg) does.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none is.
            pub fn try_peek_msg(
                &self,
                buf: &mut [u8],
            ) -> std::io::Result<polyloop_reactor::socket::Received> {
                let peek = |socket: &_| $crate::methods::recv_msg(socket, buf, true);
                self.fd().try_io(polyloop_reactor::Direction::Read, peek)
            }

            /// Waits until a message, an error or the end of the connection can be received.
            ///
            /// The wait can end although there is none; the `try_` methods then return
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the socket.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.fd().ready(polyloop_reactor::Direction::Read).await
            }

            /// Waits until the socket has room for a message to be sent.
            ///
            /// The wait can end although there is none; the `try_` methods then return
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the socket.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.fd().ready(polyloop_reactor::Direction::Write).await
            }
        }
    };
}

pub(crate) use {addresses, datagrams, messages, std_conversions};

/// Receives a message, or copies it without removing it from the socket.
pub(crate) fn recv_msg(socket: &impl AsFd, buf: &mut [u8], peek: bool) -> io::Result<Received> {
    polyloop_reactor::socket::recv_msg(socket.as_fd(), buf, peek)
}
