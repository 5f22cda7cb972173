//! The operating system: system calls, raw descriptors and all of the unsafe code.
//!
//! Everything here is written once, against names that [`os`] fills in for each system:
//!
//! | system | backends | wake-up | timer | poll's timeout | pipe |
//! |---|---|---|---|---|---|
//! | Linux, Android | epoll, poll, select (kqueue with the feature `libkqueue`) | eventfd (epoll), pipe | timerfd | ns | pipe2 |
//! | FreeBSD, DragonFly, NetBSD, OpenBSD | kqueue, poll, select | pipe | kqueue | ns | pipe2 |
//! | macOS and its family | kqueue, poll, select | pipe | kqueue | ms | pipe, fcntl |
//!
//! In this crate "not Linux" stands for the other systems of the table, which all have kqueue.
#![allow(unsafe_code)]

pub(crate) mod selectors;

pub(crate) mod wake;

pub(crate) mod timer;

pub(crate) mod signal;

pub(crate) mod socket;

pub(crate) mod fork;

pub(crate) mod clock;

pub(crate) mod cvt;

mod stat;

#[cfg(not(target_vendor = "apple"))]
mod refusal;

#[cfg(feature = "conformance")]
pub(crate) mod testing;

// What the names stand for on this system.

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "os/linux.rs"]
mod os;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/bsd.rs"]
mod os;

#[cfg(target_vendor = "apple")]
#[path = "os/apple.rs"]
mod apple;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "os/slack.rs"]
pub(crate) mod slack;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/no_slack.rs"]
pub(crate) mod slack;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/kq.rs"]
mod kq;

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(feature = "libkqueue", feature = "kqueue-model")
))]
#[path = "os/kevent.rs"]
mod kq;

#[cfg(all(any(target_os = "linux", target_os = "android"), feature = "libkqueue"))]
#[path = "os/libkqueue.rs"]
mod libkqueue;

#[cfg(not(target_vendor = "apple"))]
#[path = "os/ppoll.rs"]
mod ppoll;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "os/pselect.rs"]
mod pselect;

#[cfg(not(target_vendor = "apple"))]
#[path = "os/pipe2.rs"]
mod pipe2;
