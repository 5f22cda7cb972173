//! The selectors of the operating system: one implementation of the contract, four mechanisms.
//!
//! - [`system_selector`]: implements [`Selector`] once, for every mechanism.
//! - [`mechanism`]: the trait of a mechanism.
//! - [`table`]: the registered descriptors; [`wait`]: timeouts and their units; [`wake_up`]: the
//!   descriptor behind a notifier; [`lost`]: the error if the program closes what a selector owns.
//! - [`epoll`], [`kqueue`], [`poll`], [`select`]: the mechanisms. Each file begins with the quirks of
//!   its system calls.

use std::io;

use crate::{Backend, Selector};

use mechanism::Mechanism;
use system_selector::SystemSelector;

mod system_selector;

mod mechanism;

mod table;

pub(super) mod wait;

mod wake_up;

pub(crate) mod lost;

mod select;

pub(super) mod poll;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod epoll;

// Every supported system but Linux has kqueue. Its models run on Linux.
#[cfg(any(
    not(any(target_os = "linux", target_os = "android")),
    feature = "libkqueue",
    feature = "kqueue-model"
))]
pub(crate) mod kqueue;

/// The backends of this system, the best one first.
pub(crate) const AVAILABLE: &[Backend] = &[
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Backend::Epoll,
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    Backend::Kqueue,
    Backend::Poll,
    Backend::Select,
    // On Linux kqueue is an emulation on top of epoll: for tests, never the default.
    #[cfg(all(any(target_os = "linux", target_os = "android"), feature = "libkqueue"))]
    Backend::Kqueue,
];

pub(crate) use poll::events_of as poll_events;

/// Opens a selector of `backend`.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) if the system lacks the backend.
pub(crate) fn open(backend: Backend) -> io::Result<Box<dyn Selector>> {
    match backend {
        Backend::Select => open_mechanism::<select::Select>(),
        Backend::Poll => open_mechanism::<poll::Poll>(),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Backend::Epoll => open_mechanism::<epoll::Epoll>(),
        #[cfg(any(not(any(target_os = "linux", target_os = "android")), feature = "libkqueue"))]
        Backend::Kqueue => open_mechanism::<kqueue::Kqueue<super::kq::System>>(),
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

fn open_mechanism<M: Mechanism>() -> io::Result<Box<dyn Selector>> {
    Ok(Box::new(SystemSelector::<M>::open()?))
}
