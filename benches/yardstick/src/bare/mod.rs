//! Bare loops: one for each mechanism, with only what a careful programmer would write by hand.
//!
//! They do not detect closed or repeated descriptors, cannot be woken, have no timeouts and keep no
//! registration table: that makes them the yardstick. They wait for reading, level-triggered.

mod select;

mod poll;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod kqueue;

use std::io;
use std::os::fd::RawFd;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use epoll::Epoll;
#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
pub use kqueue::Kqueue;
pub use poll::Poll;
pub use select::Select;

/// A loop over one mechanism.
///
/// Descriptors are identified by position: the first one that is added has position 0, and only the
/// last one can be removed.
pub trait Bare {
    /// Watches `fd` for reading, under the next position.
    fn add(&mut self, fd: RawFd) -> io::Result<()>;

    /// Watches the last descriptor, which is `fd`, for reading, and for writing if requested.
    fn modify(&mut self, fd: RawFd, and_writing: bool) -> io::Result<()>;

    /// Removes the last descriptor, which is `fd`.
    fn remove(&mut self, fd: RawFd) -> io::Result<()>;

    /// Waits, without limit or without blocking, and calls `on_ready` with each position that is ready.
    fn turn(&mut self, wait: bool, on_ready: impl FnMut(usize)) -> io::Result<()>;

    /// Returns whether adding and removing are system calls.
    const HAS_CONTROL_CALLS: bool;
}
