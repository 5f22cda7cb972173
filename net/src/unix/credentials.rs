//! The credentials of a peer.

/// Gives a connected Unix socket a method that returns its peer's credentials.
macro_rules! credentials {
    ($socket:ty) => {
        impl $socket {
            /// Returns the credentials of the process that connected the other end, or created the
            /// pair.
            ///
            /// # Platform
            /// The process ID is reported on Linux only, and only if the peer is visible in the PID
            /// namespace of this process.
            ///
            /// # References
            /// `SO_PEERCRED` in [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
            #[doc(alias = "peer_cred")]
            pub fn peer_credentials(
                &self,
            ) -> std::io::Result<polyloop_reactor::socket::Credentials> {
                polyloop_reactor::socket::peer_credentials(std::os::fd::AsFd::as_fd(self))
            }
        }
    };
}

pub(super) use credentials;
