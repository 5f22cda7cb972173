//! The units that options of sockets count in.
//!
//! The rule for all of them: what an option cannot express is rounded up to its unit, so that a
//! short time never becomes zero, which means something else; it is bounded by the largest value
//! that every system takes; and a number that has no nearest meaning is refused.

use std::io;
use std::time::Duration;

use polyloop_reactor::socket::MAX_LINGER_SECONDS;

/// The longest time between the probes of a silent connection, in seconds.
///
/// Linux's limit (`MAX_TCP_KEEPIDLE`); the other systems allow more.
const MAX_KEEPALIVE_SECONDS: u32 = 32_767;

/// The most probes of a silent connection. Linux's limit (`MAX_TCP_KEEPCNT`).
#[cfg(not(target_os = "openbsd"))]
const MAX_KEEPALIVE_RETRIES: u32 = 127;

/// Rounds a time up to whole seconds: zero remains zero.
pub(crate) fn linger(time: Duration) -> Duration {
    seconds(time, MAX_LINGER_SECONDS)
}

/// Rounds a time up to whole seconds. Zero would be no time at all, and is refused.
pub(crate) fn keepalive(time: Duration) -> io::Result<Duration> {
    if time.is_zero() {
        return Err(refusal("a connection is not probed after no time at all".to_owned()));
    }
    Ok(seconds(time, MAX_KEEPALIVE_SECONDS))
}

/// Bounds a number of probes, which OpenBSD does not let a socket choose. Zero would give every silent connection up, and is refused.
#[cfg(not(target_os = "openbsd"))]
pub(crate) fn keepalive_retries(n: u32) -> io::Result<u32> {
    if n == 0 {
        return Err(refusal("a connection is probed once at least".to_owned()));
    }
    Ok(n.min(MAX_KEEPALIVE_RETRIES))
}

/// Rounds a time up to whole milliseconds that a C `int` can hold: zero remains zero.
pub(crate) fn milliseconds(time: Duration) -> Duration {
    let n = time.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(n.min(i32::MAX as u128) as u64)
}

/// Bounds a size by what a C `int` can hold: the system would take the rest of a larger one.
pub(crate) fn size(n_bytes: usize) -> usize {
    n_bytes.min(i32::MAX as usize)
}

/// Passes on a number that fits into an octet of a packet's header.
///
/// The system takes -1 for its default and may take the rest of a larger number.
pub(crate) fn octet(n: u32) -> io::Result<u32> {
    if n > u32::from(u8::MAX) {
        return Err(refusal(format!("{n} is above 255, the most that a packet can carry")));
    }
    Ok(n)
}

fn seconds(time: Duration, max: u32) -> Duration {
    let n = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    Duration::from_secs(n.min(max.into()))
}

fn refusal(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
