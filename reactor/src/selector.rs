//! The contract of a selector.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::{Backend, Events, Interest, Mode, Notifier, PollableFd, Token};

/// Waits until some of a set of file descriptors are ready.
///
/// A selector is one mechanism of the operating system, such as epoll or kqueue. All selectors keep the
/// same contract, which the conformance suite checks line by line:
///
/// - **Registration.** A descriptor is registered at most once. A call that fails changes nothing.
/// - **Readiness.** An event reports the readiness that the interest requests. Errors, hang-ups, a closed
///   read side and an invalid descriptor are reported without being requested. One wait reports a
///   descriptor at most once, with the token of its current registration.
/// - **Waiting.** [`select`](Selector::select) returns when there is an event, when the timeout has
///   elapsed, on a signal, or on a notification, and never earlier. Timeouts are rounded up to the
///   resolution of the system call, and any [`Duration`] is valid. A selector without registrations
///   waits too.
/// - **Closed descriptors.** Unregister a descriptor before you close it. If a registered descriptor is
///   closed, `select` reports it as [invalid](crate::Readiness::INVALID) once, or not at all; other
///   descriptors are not affected, and the selector does not spin. Unregister the number before you
///   register it for another file.
/// - **Fork.** In a forked child, every call on the parent's selector is an error.
///
/// # Platform
/// On Linux, a thread that waits with a timeout lowers its timer slack from 50 µs to 10 µs. Threads
/// and child processes inherit the lower slack unless it is
/// [restored](crate::restore_timer_slack) before they start.
///
/// # Implementation notes
/// To implement a selector, start with [`Notifier::from_fn`] and [`WakeFd`](crate::WakeFd) for its
/// notifier, and run the conformance suite on it.
///
/// # References
/// [`selectors.BaseSelector`](https://docs.python.org/3/library/selectors.html#selectors.BaseSelector)
/// in Python.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use std::os::fd::AsFd;
/// use std::os::unix::net::UnixStream;
/// use polyloop::selectors::{Events, Interest, Mode, Token, default_selector};
///
/// let (reader, mut writer) = UnixStream::pair()?;
/// let mut selector = default_selector()?;
/// selector.register(reader.as_fd(), Token::from_raw(7), Interest::READABLE, Mode::Level)?;
///
/// writer.write_all(b"hello")?;
/// let mut events = Events::with_capacity(64);
/// selector.select(&mut events, None)?;
/// for event in &events {
///     assert_eq!(event.token, Token::from_raw(7));
///     assert!(event.readiness.is_readable());
/// }
/// selector.unregister(reader.as_fd())?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Selector: Send + fmt::Debug {
    /// Returns the backend that this selector belongs to.
    fn backend(&self) -> Backend;

    /// Returns whether descriptors can be registered in `mode`.
    ///
    /// Every selector supports [`Mode::Level`] and [`Mode::OneShot`].
    fn supports(&self, mode: Mode) -> bool;

    /// Registers `fd`, to be reported with `token`.
    ///
    /// # Errors
    /// - [`AlreadyExists`](io::ErrorKind::AlreadyExists) if `fd` is already registered.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if `interest` is empty. With select, also if `fd` is
    ///   not below [`descriptor_limit`](Selector::descriptor_limit).
    /// - [`Unsupported`](io::ErrorKind::Unsupported) if the selector does not support `mode`, or out-of-band
    ///   data on this system.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the system cannot watch `fd`, such as
    ///   epoll a regular file.
    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Changes the token, the interest and the mode of a registered `fd`, and re-arms a one-shot.
    ///
    /// # Errors
    /// - [`NotFound`](io::ErrorKind::NotFound) if `fd` is not registered.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if `interest` is empty.
    /// - [`Unsupported`](io::ErrorKind::Unsupported) if the selector does not support `mode`.
    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Unregisters `fd`.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if `fd` is not registered.
    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Waits up to `timeout` for registered descriptors to become ready, and replaces the contents of
    /// `events`.
    ///
    /// Without a timeout the wait has no limit; a timeout of zero returns at once. If a signal or a
    /// [`Notifier`] ends the wait, the result is `Ok` and there may be no events:
    /// [`Events::wait_end`] returns what ended the wait.
    ///
    /// # Errors
    /// [`LostDescriptor`](crate::LostDescriptor) if the program has closed a descriptor that the
    /// selector owns. A signal is not an error.
    ///
    /// # Implementation notes
    /// Call [`Events::clear`] first, and [`Events::set_wait_end`] if a signal or a notification
    /// ends the wait.
    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// Returns a handle that ends a wait from another thread.
    ///
    /// # Errors
    /// An error if no descriptor is left for it: some selectors open one when the first notifier is
    /// requested. With select, also if that descriptor is not below
    /// [`descriptor_limit`](Selector::descriptor_limit).
    fn notifier(&self) -> io::Result<Notifier>;

    /// Returns the registration of `fd`, if there is one.
    #[doc(alias = "get_key")]
    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration>;

    /// Returns all registrations, in no particular order.
    #[doc(alias = "get_map")]
    fn registrations(&self) -> Vec<Registration>;

    /// Returns the selector's own descriptor, which is readable while an event is waiting, so that another
    /// event loop can watch this one.
    ///
    /// The descriptor stays the same. select and poll have none.
    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Appends the descriptors that a host has to watch to learn when [`select`](Selector::select)
    /// would return an event.
    ///
    /// For a host that waits in poll(2) or select(2) itself. The list is that of the
    /// [`pollable_fd`](Selector::pollable_fd) where there is one, otherwise the registered
    /// descriptors and the notifier's. It is valid until the next call that changes the
    /// registrations or waits.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the selector cannot be watched from outside.
    ///
    /// # References
    /// `curl_multi_fdset` and `curl_multi_waitfds` of libcurl.
    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        push_pollable_fd(self.backend(), self.pollable_fd(), fds)
    }

    /// Returns whether a short read from a stream socket proves that the socket is empty and that the
    /// next edge will be reported, so that the caller may wait without another read.
    ///
    /// That saves a system call for each message. It holds if the selector, in [`Mode::Edge`],
    ///
    /// - reports whatever arrives after such a read, even if it arrived between the last wait and
    ///   the read: data, the end of the stream, an error, out-of-band data;
    /// - reports the end of the stream, an error or out-of-band data that arrived together with data as
    ///   [`READ_CLOSED`](crate::Readiness::READ_CLOSED) and so on, together with
    ///   [`READABLE`](crate::Readiness::READABLE), since a read stops short before them too;
    /// - accepts [`Interest::PRIORITY`] for every descriptor, together with other interests. The
    ///   [`Reactor`](crate::Reactor) then registers it.
    ///
    /// The default, `false`, is always correct. Selectors without edges may ignore this: they report the
    /// remaining data again.
    fn short_read_is_empty(&self) -> bool {
        false
    }

    /// Returns whether registering a file that is always ready (a regular file, a directory) is an
    /// error.
    ///
    /// If it is not, the runtime checks the kind of file itself: reading such a file may block although
    /// the selector reports it as ready.
    fn refuses_files(&self) -> bool {
        false
    }

    /// Returns the number at and above which descriptors are refused, or `None` if there is no such limit.
    fn descriptor_limit(&self) -> Option<usize> {
        None
    }

    /// Returns the number of system calls so far, except those that open and close the selector.
    fn system_calls(&self) -> SystemCalls {
        SystemCalls::default()
    }
}

/// Appends the one descriptor of a selector that has one.
pub(crate) fn push_pollable_fd(
    backend: Backend,
    fd: Option<BorrowedFd<'_>>,
    fds: &mut Vec<PollableFd>,
) -> io::Result<()> {
    let Some(fd) = fd else {
        let message = format!("the backend {backend} has no descriptors to watch");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    };
    fds.push(PollableFd { fd: fd.as_raw_fd(), interest: Interest::READABLE });
    Ok(())
}

/// The registration of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The descriptor's number.
    pub fd: RawFd,
    /// The token that it is reported with.
    pub token: Token,
    /// The readiness that it is watched for.
    pub interest: Interest,
    /// How often its readiness is reported.
    pub mode: Mode,
}

/// Numbers of system calls that a selector has made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemCalls {
    /// Waits: `select`, `poll`, `epoll_wait`, and `kevent` with room for events.
    pub waits: u64,
    /// Calls that only change the set, such as `epoll_ctl`.
    pub controls: u64,
}
