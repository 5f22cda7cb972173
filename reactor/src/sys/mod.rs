//! The room of the operating system: system calls, raw descriptors and all of the unsafe code.
//!
//! This file is the only table of systems. Everything else here is written once, against the
//! names that the table fills in.
//!
//! | system | backends | wake-up | timer | poll's timeout | pipe |
//! |---|---|---|---|---|---|
//! | Linux, Android | epoll, poll, select (kqueue with the feature `libkqueue`) | eventfd (epoll), pipe | timerfd | ns | pipe2 |
//! | FreeBSD, DragonFly, NetBSD, OpenBSD | kqueue, poll, select | pipe | kqueue | ns | pipe2 |
//! | macOS and its family | kqueue, poll, select | pipe | kqueue | ms | pipe, fcntl |
#![allow(unsafe_code)]

use std::io;

use crate::{Backend, Selector};

pub(crate) mod clock;

pub(crate) mod cvt;

#[cfg(not(target_vendor = "apple"))]
mod refusal;

mod wait;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod slack;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/no_slack.rs"]
pub(crate) mod slack;

mod table;

pub(crate) mod fork;

pub(crate) mod lost;

pub(crate) mod wake;

pub(crate) mod timer;

pub(crate) mod signal;

pub(crate) mod socket;

pub(crate) mod kind;

pub(crate) mod sigpipe;

pub(crate) mod net;

pub(crate) mod find;

#[cfg(feature = "conformance")]
pub(crate) mod testing;

mod select;

mod poll;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;

#[cfg(any(
    all(target_os = "linux", feature = "libkqueue"),
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
mod kqueue;

#[cfg(not(target_vendor = "apple"))]
mod ppoll;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod pselect;

#[cfg(not(target_vendor = "apple"))]
mod pipe2;

#[cfg(all(target_os = "linux", feature = "libkqueue"))]
#[path = "os/libkqueue.rs"]
mod kq;

#[cfg(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_os = "openbsd",
))]
#[path = "os/kq.rs"]
mod kq;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "os/linux.rs"]
mod os;

#[cfg(target_vendor = "apple")]
#[path = "os/apple.rs"]
mod os;

#[cfg(target_os = "freebsd")]
#[path = "os/freebsd.rs"]
mod os;

#[cfg(target_os = "dragonfly")]
#[path = "os/dragonfly.rs"]
mod os;

#[cfg(target_os = "netbsd")]
#[path = "os/netbsd.rs"]
mod os;

#[cfg(target_os = "openbsd")]
#[path = "os/openbsd.rs"]
mod os;

/// The backends of this system, the best one first.
pub(crate) const AVAILABLE: &[Backend] = &[
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Backend::Epoll,
    #[cfg(any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
    ))]
    Backend::Kqueue,
    Backend::Poll,
    Backend::Select,
    // On Linux kqueue is an emulation on top of epoll: there for tests, never the default.
    #[cfg(all(target_os = "linux", feature = "libkqueue"))]
    Backend::Kqueue,
];

pub(crate) use poll::to_mask as poll_events;

/// Makes a selector of `backend`.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) where the system lacks it.
pub(crate) fn open(backend: Backend) -> io::Result<Box<dyn Selector>> {
    match backend {
        Backend::Select => Ok(Box::new(select::SelectSelector::new()?)),
        Backend::Poll => Ok(Box::new(poll::PollSelector::new()?)),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Backend::Epoll => Ok(Box::new(epoll::EpollSelector::new()?)),
        #[cfg(any(
            all(target_os = "linux", feature = "libkqueue"),
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "dragonfly",
            target_os = "netbsd",
            target_os = "openbsd",
        ))]
        Backend::Kqueue => Ok(Box::new(kqueue::KqueueSelector::new()?)),
        other => {
            let available: Vec<&str> = AVAILABLE.iter().map(|backend| backend.name()).collect();
            let message = format!(
                "backend \"{other}\" is not available on this system (available: {})",
                available.join(", ")
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}
