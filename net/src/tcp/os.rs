//! Socket options that only some systems have. Elsewhere they are refused or ignored.

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

#[cfg(not(target_os = "openbsd"))]
pub(super) fn with_interval(params: TcpKeepalive, interval: Duration) -> TcpKeepalive {
    params.with_interval(interval)
}

#[cfg(not(target_os = "openbsd"))]
pub(super) fn with_retries(params: TcpKeepalive, retries: u32) -> TcpKeepalive {
    params.with_retries(retries)
}

#[cfg(target_os = "openbsd")]
pub(super) fn with_interval(params: TcpKeepalive, _: Duration) -> TcpKeepalive {
    params
}

#[cfg(target_os = "openbsd")]
pub(super) fn with_retries(params: TcpKeepalive, _: u32) -> TcpKeepalive {
    params
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn bind_device(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn set_user_timeout(socket: &Socket, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn bind_device(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "binding to a network interface is only supported on Linux",
    ))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn set_user_timeout(_: &Socket, _: Duration) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the TCP user timeout is only supported on Linux",
    ))
}

#[cfg(not(all(target_vendor = "apple", not(target_os = "macos"))))]
pub(super) fn set_traffic_class(socket: &Socket, class: u32) -> io::Result<()> {
    socket.set_tclass_v6(class)
}

#[cfg(all(target_vendor = "apple", not(target_os = "macos")))]
pub(super) fn set_traffic_class(_: &Socket, _: u32) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the IPv6 traffic class is not supported on this system",
    ))
}
