//! Passing descriptors.

/// Gives a Unix socket with a method `fd` the methods for passing descriptors.
macro_rules! passing {
    ($socket:ty) => {
        impl $socket {
            /// Sends `bytes`, and with the first byte duplicates of the descriptors `fds`.
            ///
            /// Returns the number of bytes sent. If it is not zero, all descriptors were sent.
            ///
            /// # Errors
            /// [`InvalidInput`](std::io::ErrorKind::InvalidInput) if `bytes` is empty, or for more
            /// than 253 descriptors.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, nothing was sent.
            ///
            /// # References
            /// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            #[doc(alias = "SCM_RIGHTS")]
            pub async fn send_fds(
                &self,
                bytes: &[u8],
                fds: &[std::os::fd::BorrowedFd<'_>],
            ) -> std::io::Result<usize> {
                let send = |socket: &_| {
                    let socket = std::os::fd::AsFd::as_fd(socket);
                    polyloop_reactor::socket::send_fds(socket, bytes, fds)
                };
                self.fd().async_io(polyloop_reactor::Direction::Write, send).await
            }

            /// Receives bytes into `buf`, and with them up to `max_fds` descriptors.
            ///
            /// The descriptors are close-on-exec. If more than `max_fds` were sent, the result is
            /// marked as truncated and the excess descriptors are closed. On a stream, no bytes and
            /// no descriptors mean that the stream has ended.
            ///
            /// Other control messages that the socket has requested, such as credentials
            /// (`SO_PASSCRED`, which connections inherit from their listener) and timestamps, take no
            /// room from the descriptors. They are discarded, and the descriptor of the sending
            /// process (`SO_PASSPIDFD`) is closed.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, nothing was received.
            ///
            /// # References
            /// `SCM_RIGHTS` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            pub async fn recv_fds(
                &self,
                buf: &mut [u8],
                max_fds: usize,
            ) -> std::io::Result<polyloop_reactor::socket::ReceivedFds> {
                let receive = |socket: &_| {
                    let socket = std::os::fd::AsFd::as_fd(socket);
                    polyloop_reactor::socket::recv_fds(socket, buf, max_fds)
                };
                self.fd().async_io(polyloop_reactor::Direction::Read, receive).await
            }
        }
    };
}

pub(super) use passing;
