//! When a silent connection is probed.

use std::io;
use std::time::Duration;

use socket2::TcpKeepalive;

use super::os;
use crate::units;

/// Settings of TCP keepalive: when and how often the peer of a silent connection is probed.
///
/// Durations are rounded up to seconds and limited to 32,767 seconds (nine hours).
///
/// # Platform
/// OpenBSD has only system-wide settings and ignores those made here.
///
/// # References
/// `SO_KEEPALIVE` in [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html);
/// `TCP_KEEPIDLE`, `TCP_KEEPINTVL` and `TCP_KEEPCNT` in
/// [tcp(7)](https://man7.org/linux/man-pages/man7/tcp.7.html).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    idle: Duration,
    interval: Option<Duration>,
    retries: Option<u32>,
}

impl Keepalive {
    /// Sends the first probe after the connection has been silent for `idle`.
    pub fn new(idle: Duration) -> Keepalive {
        Keepalive { idle, interval: None, retries: None }
    }

    /// Sets the time between probes.
    pub fn with_interval(mut self, interval: Duration) -> Keepalive {
        self.interval = Some(interval);
        self
    }

    /// Sets the number of unanswered probes, at most 127, after which the connection is closed.
    pub fn with_retries(mut self, retries: u32) -> Keepalive {
        self.retries = Some(retries);
        self
    }

    /// Converts the settings, and refuses zeros.
    pub(super) fn to_params(self) -> io::Result<TcpKeepalive> {
        let mut params = TcpKeepalive::new().with_time(units::keepalive(self.idle)?);
        if let Some(interval) = self.interval {
            params = os::with_interval(params, units::keepalive(interval)?);
        }
        if let Some(retries) = self.retries {
            params = os::with_retries(params, units::keepalive_retries(retries)?);
        }
        Ok(params)
    }
}
