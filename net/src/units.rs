//! Conversion of values into the units of socket options.
//!
//! A value that an option cannot represent is rounded up to its unit, so that a short duration never
//! becomes zero, which has another meaning. It is limited to the largest value that every system
//! accepts. A number without a nearest meaning is refused.

use std::io;
use std::time::Duration;

use polyloop_reactor::socket::MAX_LINGER_SECONDS;

/// The maximum time before and between keepalive probes, in seconds.
///
/// Linux's limit (`MAX_TCP_KEEPIDLE`); the other systems allow more.
const MAX_KEEPALIVE_SECONDS: u32 = 32_767;

/// The maximum number of keepalive probes. Linux's limit (`MAX_TCP_KEEPCNT`).
const MAX_KEEPALIVE_RETRIES: u32 = 127;

/// Rounds a duration up to seconds. Zero remains zero.
pub(crate) fn linger(time: Duration) -> Duration {
    seconds(time, MAX_LINGER_SECONDS)
}

/// Rounds a duration up to seconds, and refuses zero.
pub(crate) fn keepalive(time: Duration) -> io::Result<Duration> {
    if time.is_zero() {
        return Err(invalid("the time before a keepalive probe must not be zero".to_owned()));
    }
    Ok(seconds(time, MAX_KEEPALIVE_SECONDS))
}

/// Limits a number of keepalive probes, and refuses zero.
pub(crate) fn keepalive_retries(n: u32) -> io::Result<u32> {
    if n == 0 {
        return Err(invalid("the number of keepalive probes must not be zero".to_owned()));
    }
    Ok(n.min(MAX_KEEPALIVE_RETRIES))
}

/// Rounds a duration up to milliseconds, and limits it to a C `int`. Zero remains zero.
pub(crate) fn milliseconds(time: Duration) -> Duration {
    let n = time.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(n.min(i32::MAX as u128) as u64)
}

/// Limits a size to a C `int`: the system would use the low bits of a larger one.
pub(crate) fn size(n_bytes: usize) -> usize {
    n_bytes.min(i32::MAX as usize)
}

/// Checks that a number fits into one octet of a packet header.
///
/// The system takes -1 for its default, and may use the low bits of a larger number.
pub(crate) fn octet(n: u32) -> io::Result<u32> {
    if n > u32::from(u8::MAX) {
        return Err(invalid(format!(
            "{n} exceeds 255, the maximum of a field in the packet header"
        )));
    }
    Ok(n)
}

fn seconds(time: Duration, max: u32) -> Duration {
    let n = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    Duration::from_secs(n.min(max.into()))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
