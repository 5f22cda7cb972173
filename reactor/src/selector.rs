//! The contract of a selector.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::{Backend, Events, Interest, Mode, Notifier, PollableFd, Token};

/// Waits until some of many descriptors are ready: one operating-system mechanism, one contract.
///
/// The contract, which the conformance suite checks line by line:
///
/// - **Book-keeping.** Registering a descriptor twice is [`AlreadyExists`]; modifying or
///   unregistering one that is not registered is [`NotFound`]; an empty interest is
///   [`InvalidInput`]; a mode that [`supports`](Selector::supports) denies is [`Unsupported`].
///   A call that fails leaves no trace.
/// - **Reports** are masked by the interest, except that error, hang-up, read-closed and invalid
///   are told whenever the system tells them. A descriptor is reported at most once in a wait.
///   A report never carries the token of an earlier registration.
/// - **Waiting.** No timeout waits for ever, zero only looks. A wait never ends early without an
///   event, save for a signal or a [`Notifier`]: then it is `Ok` with no events. No timer unit
///   rounds down, and no [`Duration`] overflows. No descriptors at all is fine. What has ended
///   the wait is in [`Events::wait_end`].
/// - **Closing a registered descriptor** is a mistake that costs nobody else: it is reported as
///   invalid or not at all, other descriptors are served, and nothing spins. `unregister` with
///   its number then succeeds, and comes before that number is watched for its next owner.
/// - **Fork.** In a child process every call on the parent's selector is an error.
///
/// # Platform
/// On Linux a thread that waits for a deadline lowers its timer slack (to 10 µs, from the usual
/// 50). Threads and child processes that it starts inherit it, unless the slack is
/// [restored](crate::restore_timer_slack) before.
///
/// # Implementation notes
/// Implement it to bring a selector of your own; [`Notifier::from_fn`] and [`WakeFd`] are the
/// parts of its notifier.
///
/// # References
/// CPython's `selectors.BaseSelector`.
///
/// [`AlreadyExists`]: io::ErrorKind::AlreadyExists
/// [`NotFound`]: io::ErrorKind::NotFound
/// [`InvalidInput`]: io::ErrorKind::InvalidInput
/// [`Unsupported`]: io::ErrorKind::Unsupported
/// [`WakeFd`]: crate::WakeFd
pub trait Selector: Send + fmt::Debug {
    /// Names the mechanism.
    fn backend(&self) -> Backend;

    /// Reports whether descriptors can be registered in `mode`.
    fn supports(&self, mode: Mode) -> bool;

    /// Begins to watch `fd`, and to report it with `token`.
    ///
    /// # Errors
    /// See the contract above; besides, what the system says: epoll refuses regular files with
    /// `EPERM`, select refuses a descriptor at or above `FD_SETSIZE`.
    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Replaces token, interest and mode of a registered `fd`, and re-arms a one-shot.
    ///
    /// # Errors
    /// See the contract above.
    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// See the contract above.
    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Waits up to `timeout` and replaces `events` by what happened.
    ///
    /// # Errors
    /// What the system reports, but never `EINTR`: an interrupted wait is `Ok` with no events. A
    /// [`LostDescriptor`](crate::LostDescriptor) if the program has closed what the selector owns.
    ///
    /// # Implementation notes
    /// Call [`Events::clear`] first, and [`Events::set_wait_end`] if a signal or a notification has
    /// ended the wait.
    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()>;

    /// Returns a handle that ends a wait from another thread.
    ///
    /// # Errors
    /// What the system reports: what the handle needs may be made when the first is asked for.
    /// select needs a descriptor below `FD_SETSIZE`.
    fn notifier(&self) -> io::Result<Notifier>;

    /// Returns what `fd` is registered for. Python's `get_key`.
    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration>;

    /// Lists what is registered, in no particular order. Python's `get_map`.
    fn registrations(&self) -> Vec<Registration>;

    /// Lends the selector's own descriptor, readable when an event is waiting, so that one loop
    /// can watch another. It stays the same. Select and poll have none.
    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Adds the descriptors to `fds` that a host has to watch so that it knows when
    /// [`select`](Selector::select) would find something: those that are registered and the notifier's,
    /// or, where there is a [`pollable_fd`](Selector::pollable_fd), that one alone.
    ///
    /// For a host that waits in poll(2) or select(2) itself. The list holds until the next call that
    /// changes what is registered, or waits.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the selector cannot be watched from outside, which
    /// is what a selector reports that has no `pollable_fd` and does not implement this.
    ///
    /// # References
    /// libcurl's `curl_multi_fdset` and `curl_multi_waitfds`.
    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        push_pollable_fd(self.backend(), self.pollable_fd(), fds)
    }

    /// Reports whether a read from a stream socket that returned less than it was asked for proves
    /// that the next edge will be reported, so that the caller may wait for it without another read.
    ///
    /// That saves a system call for each message. It holds if this selector, in [`Mode::Edge`],
    ///
    /// - reports whatever arrives after such a read, even if it arrived between the last wait and
    ///   the read: data, the end of the stream, an error, urgent data;
    /// - reports the end of the stream, an error or urgent data that came together with data as
    ///   [`READ_CLOSED`](crate::Readiness::READ_CLOSED) and the like, beside
    ///   [`READABLE`](crate::Readiness::READABLE), since a read stops short before them as well;
    /// - accepts [`Interest::PRIORITY`] for every descriptor, beside the other interests. The
    ///   [`Reactor`](crate::Reactor) asks for it then.
    ///
    /// False is always correct, and what a selector reports unless it says otherwise. It is of no
    /// meaning for selectors without edges: what is left is reported again as a level.
    fn short_read_is_empty(&self) -> bool {
        false
    }

    /// Reports whether registering what is always ready (a regular file, a directory) is an error.
    ///
    /// Where it is not, the runtime looks for itself: reading a file may block although the
    /// selector reports that it is ready.
    fn refuses_files(&self) -> bool {
        false
    }

    /// Returns the number from which on a descriptor is refused, whatever it is; `None` if there is no
    /// such limit.
    fn descriptor_limit(&self) -> Option<usize> {
        None
    }

    /// Counts the system calls made so far, apart from creating and closing the selector.
    fn system_calls(&self) -> SystemCalls {
        SystemCalls::default()
    }
}

/// Lists the one descriptor of a selector that has one.
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

/// Describes one registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The descriptor's number.
    pub fd: RawFd,
    /// The token it is reported with.
    pub token: Token,
    /// What it is watched for.
    pub interest: Interest,
    /// How often it is reported.
    pub mode: Mode,
}

/// Counts a selector's system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemCalls {
    /// Waits: `select`, `poll`, `epoll_wait`, `kevent` with room for events.
    pub waits: u64,
    /// Changes to the set that cost a call of their own: `epoll_ctl`.
    pub controls: u64,
}
