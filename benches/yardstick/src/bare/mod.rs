//! Bare loops: one mechanism each, and only what a careful person would write by hand for it.
//!
//! They do not notice closed or repeated descriptors, cannot be woken, time nothing and keep no
//! book: that is what makes them the yardstick. They wait for reading, level-triggered.

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
/// Descriptors are known by their position: the first that is added has position 0, and only the
/// last one can be removed.
pub trait Bare {
    /// Watches `fd` for reading, under the next position.
    ///
    /// # Errors
    /// What the system says.
    fn add(&mut self, fd: RawFd) -> io::Result<()>;

    /// Watches the last descriptor, which is `fd`, for reading, and for writing too or not.
    ///
    /// # Errors
    /// What the system says.
    fn modify(&mut self, fd: RawFd, and_writing: bool) -> io::Result<()>;

    /// Forgets the last descriptor, which is `fd`.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, fd: RawFd) -> io::Result<()>;

    /// Waits, for ever or not at all, and calls `on_ready` with each position that is ready.
    ///
    /// # Errors
    /// What the system says.
    fn turn(&mut self, wait: bool, on_ready: impl FnMut(usize)) -> io::Result<()>;

    /// Reports whether adding and removing are system calls.
    const HAS_CONTROL_CALLS: bool;
}
