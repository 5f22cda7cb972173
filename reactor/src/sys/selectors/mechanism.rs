//! What a mechanism of the operating system adds to [`SystemSelector`](super::system_selector::SystemSelector).

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use crate::{Backend, Events, Interest, Mode, Notifier, PollableFd, SystemCalls};

use crate::selector::push_pollable_fd;

use super::table::{Entry, Table};

/// One way to wait for descriptors: its system calls and its constants.
///
/// Arguments are checked before a method is called: the process is the one that opened the
/// mechanism, the interest is not empty, the mode is supported, and the descriptor is in the table or
/// not, as the operation requires.
pub(super) trait Mechanism: Sized + Send + fmt::Debug + 'static {
    /// The backend's name.
    const BACKEND: Backend;

    /// Whether there is an edge-triggered mode.
    const HAS_EDGES: bool;

    /// See [`Selector::short_read_is_empty`](crate::Selector::short_read_is_empty).
    const SHORT_READ_IS_EMPTY: bool = false;

    /// See [`Selector::refuses_files`](crate::Selector::refuses_files).
    const REFUSES_FILES: bool = false;

    /// See [`Selector::descriptor_limit`](crate::Selector::descriptor_limit).
    const DESCRIPTOR_LIMIT: Option<usize> = None;

    /// The mechanism's own part of an entry in the table.
    type Place: Copy + Send + fmt::Debug;

    fn open() -> io::Result<Self>;

    /// Refuses a descriptor or an interest that the mechanism can never watch.
    fn check(_call: &str, _fd: RawFd, _interest: Interest) -> io::Result<()> {
        Ok(())
    }

    /// Starts watching `fd`, which is then inserted into the table.
    fn add(
        &mut self,
        table: &mut Table<Self::Place>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<Self::Place>;

    /// Watches for another interest or in another mode, and arms the entry. The entry still holds the
    /// former interest and mode; if this succeeds, they are replaced.
    fn change(
        &mut self,
        entry: &mut Entry<Self::Place>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Stops watching `fd`, whose `entry` has been taken out of the table.
    fn remove(
        &mut self,
        table: &mut Table<Self::Place>,
        fd: RawFd,
        entry: Entry<Self::Place>,
    ) -> io::Result<()>;

    /// Submits changes that [`change`](Mechanism::change) and [`remove`](Mechanism::remove) have queued,
    /// if they must not be left until the next wait.
    fn commit(&mut self, _table: &mut Table<Self::Place>) -> io::Result<()> {
        Ok(())
    }

    /// Waits once in the kernel, for at most `timeout`, and pushes what is ready. `events` has room
    /// for at least one event.
    fn wait(
        &mut self,
        table: &mut Table<Self::Place>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome>;

    /// Returns the notifier. What it needs is opened by the first call.
    fn notifier(&self) -> io::Result<Notifier>;

    /// See [`Selector::pollable_fd`](crate::Selector::pollable_fd).
    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// See [`Selector::pollable_fds`](crate::Selector::pollable_fds).
    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        push_pollable_fd(Self::BACKEND, self.pollable_fd(), fds)
    }

    fn system_calls(&self) -> SystemCalls;
}

/// What has ended one wait in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Events, or the timeout.
    Complete,
    /// A notification, perhaps with events.
    Notified,
    /// A signal.
    Interrupted,
    /// Only what concerns the mechanism itself. There may be events that it has hidden, so the kernel
    /// is asked again, even if no time is left.
    Again,
}
