//! Signals as a descriptor that becomes readable.
//!
//! The handler writes to the [`WakeFd`] of each listener. Everything else happens where the descriptor
//! is read.
//!
//! - [`slots`]: the listeners of each signal, as the handler finds them.
//! - [`handler`]: the handler, and the ones before it in the chain, which it calls.
//! - [`dispositions`]: which dispositions it has replaced, and when they are restored.
//! - [`action`]: the system calls.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use libc::c_int;

use super::fork::ForkGuard;
use super::wake::WakeFd;

use action::{current, stay_loaded};
use slots::Slot;

mod slots;

mod handler;

mod dispositions;

mod action;

/// A listener for one signal: its descriptor is readable when the signal has been delivered.
///
/// Signals coalesce: several deliveries before a [`take`](SignalFd::take) count as one. A signal can have any
/// number of listeners, and each of them receives it. Each listener takes a descriptor.
///
/// While a signal has a listener, its default action does not take place. A handler that was installed
/// before, by the program or by another copy of this library, is still called. The former disposition is
/// restored when the last listener of the signal is dropped. A signal that is pending at that moment is
/// handled by that disposition, which may end the process.
///
/// A handler that was installed later stays installed and may still call the one of this library, whose
/// code is then kept in memory even if the shared object that contains it is unloaded.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
/// use polyloop::selectors::{Events, Interest, Mode, SignalFd, Token, default_selector};
///
/// let window = SignalFd::listen(SignalFd::WINDOW_CHANGE)?;
/// let mut selector = default_selector()?;
/// selector.register(window.as_fd(), Token::from_raw(1), Interest::READABLE, Mode::Level)?;
///
/// let mut events = Events::with_capacity(8);
/// selector.select(&mut events, Some(std::time::Duration::ZERO))?;
/// assert!(events.is_empty());
/// assert!(!window.take()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SignalFd {
    signum: c_int,
    slot: &'static Slot,
    wake: WakeFd,
    fork: ForkGuard,
}

impl SignalFd {
    /// `SIGINT`: Ctrl-C.
    pub const INTERRUPT: i32 = libc::SIGINT;
    /// `SIGTERM`: a request to terminate.
    pub const TERMINATE: i32 = libc::SIGTERM;
    /// `SIGHUP`: the terminal was closed. By convention, a daemon reloads its configuration.
    pub const HANG_UP: i32 = libc::SIGHUP;
    /// `SIGQUIT`: Ctrl-\.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// `SIGUSR1`: user-defined.
    pub const USER1: i32 = libc::SIGUSR1;
    /// `SIGUSR2`: user-defined.
    pub const USER2: i32 = libc::SIGUSR2;
    /// `SIGCHLD`: a child process has ended or stopped.
    pub const CHILD: i32 = libc::SIGCHLD;
    /// `SIGALRM`: a timer of the process has expired.
    pub const ALARM: i32 = libc::SIGALRM;
    /// `SIGPIPE`: a write to a pipe or socket without a reader.
    pub const PIPE: i32 = libc::SIGPIPE;
    /// `SIGWINCH`: the size of the terminal has changed.
    pub const WINDOW_CHANGE: i32 = libc::SIGWINCH;
    /// `SIGIO`: a descriptor with `O_ASYNC` is ready.
    pub const IO: i32 = libc::SIGIO;
    /// `SIGCONT`: the process continues after a stop.
    pub const CONTINUE: i32 = libc::SIGCONT;

    /// Creates a listener for the signal `signum`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if there is no such signal, for `SIGKILL` and `SIGSTOP`,
    /// which no process can handle, and for signals that report a fault of the program (such as
    /// `SIGSEGV`), from which a handler cannot return. An error such as `EMFILE` if no descriptor is left.
    pub fn listen(signum: i32) -> io::Result<SignalFd> {
        check(signum)?;
        let wake = WakeFd::new()?;
        let fork = ForkGuard::new();
        let mut dispositions = dispositions::lock();
        let slot = dispositions.slot_for(signum);
        slot.enter(signum, wake.writer_fd());
        if let Err(error) = dispositions.acquire(signum) {
            slot.leave();
            dispositions.free(signum, slot);
            return Err(error);
        }
        drop(dispositions);
        Ok(SignalFd { signum, slot, wake, fork })
    }

    /// Returns the signal's number.
    pub fn signum(&self) -> i32 {
        self.signum
    }

    /// Returns whether the signal has been delivered since the last call, and makes the descriptor
    /// unreadable until the next delivery.
    ///
    /// # Errors
    /// An error in a forked child, which would consume the parent's signal.
    pub fn take(&self) -> io::Result<bool> {
        self.fork.check()?;
        self.wake.drain()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl fmt::Debug for SignalFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalFd").field("signum", &self.signum).finish_non_exhaustive()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        let mut dispositions = dispositions::lock();
        self.slot.leave();
        let is_linked = dispositions.release(self.signum);
        dispositions.free(self.signum, self.slot);
        // Loading a library takes another lock.
        drop(dispositions);
        if is_linked {
            stay_loaded();
        }
    }
}

fn check(signum: c_int) -> io::Result<()> {
    let reason = match signum {
        libc::SIGKILL | libc::SIGSTOP => "no process can listen for it",
        libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGFPE
        | libc::SIGILL
        | libc::SIGTRAP
        | libc::SIGABRT
        | libc::SIGSYS => "it reports a fault, from which a handler cannot return",
        _ if current(signum).is_err() => "there is no such signal",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("listen: signal {signum}: {reason}")))
}
