//! Which file descriptors are ready?
//!
//! A [`Selector`] waits until file descriptors are ready, with one of the operating system's mechanisms:
//! epoll, kqueue, poll or select. All that the system has are compiled in and share one contract; a
//! [`Backend`] is chosen at run time. A [`KeyedSelector`] attaches data to each registration, as
//! Python's `selectors` does.
//!
//! The [`Reactor`] is what the runtime uses: a selector, the readiness of each source, and the wakers of the
//! tasks that wait for it. It does not know tasks or timers; each turn is given a timeout.
//!
//! `docs/differences.md` in the repository lists what may differ between backends. The tests enforce it;
//! any other difference is a bug.
//!
//! # Examples
//! A selector by itself:
//! ```
//! use std::io::Write;
//! use std::os::fd::AsFd;
//! use std::os::unix::net::UnixStream;
//! use polyloop::selectors::{Events, Interest, Mode, Token, default_selector};
//!
//! let (reader, mut writer) = UnixStream::pair()?;
//! let mut selector = default_selector()?;
//! selector.register(reader.as_fd(), Token::from_raw(7), Interest::READABLE, Mode::Level)?;
//!
//! writer.write_all(b"hello")?;
//! let mut events = Events::with_capacity(64);
//! selector.select(&mut events, None)?;
//! let event = events.iter().next().unwrap();
//! assert_eq!(event.token, Token::from_raw(7));
//! assert!(event.readiness.is_readable());
//! # Ok::<(), std::io::Error>(())
//! ```
#![deny(unsafe_code)]

mod selector;

mod backend;

mod interest;

mod event;

mod token;

mod notifier;

mod pollable;

mod keyed;

mod reactor;

mod timer_slack;

mod sys;

#[cfg(feature = "conformance")]
pub mod conformance;

/// What sockets and pipes need beyond the standard library.
pub mod socket {
    pub use crate::sys::socket::*;
}

pub use backend::{Backend, UnknownBackend, default_selector};
pub use event::{Event, Events, Readiness, WaitEnd};
pub use interest::{Interest, Mode};
pub use keyed::{Key, KeyedSelector, Keys, Ready};
pub use notifier::Notifier;
pub use pollable::PollableFd;
pub use reactor::{Collected, Direction, Outlook, Reactor, Released, WaiterKey, Watched};
pub use selector::{Registration, Selector, SystemCalls};
pub use sys::clock::monotonic_ns;
pub use sys::cvt::os_error;
pub use sys::fork::{ForkGuard, PerProcess};
pub use sys::selectors::lost::LostDescriptor;
pub use sys::signal::SignalFd;
pub use sys::wake::WakeFd;
pub use timer_slack::restore_timer_slack;
pub use token::Token;
