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

/// Listens for one signal: its descriptor is readable when the signal has come.
///
/// Signals of one kind coalesce: that it came is known, how often is not. Any number of
/// listeners hear the same signal, each by itself; the process can have as many as it can have
/// descriptors, each takes one. While there is a listener, the signal's default action does not
/// happen. A handler that was installed before, by the program or by another copy of this library, is
/// called as well. The former disposition comes back when the last listener of that signal is dropped. A
/// signal that is still on its way then meets that disposition, which may be to end the process.
///
/// If another handler was installed later, it stays, and may go on calling this library's. The code of
/// that is then kept in memory even if the library that it is part of is unloaded.
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
    /// Ctrl-C: `SIGINT`.
    pub const INTERRUPT: i32 = libc::SIGINT;
    /// The polite request to end: `SIGTERM`.
    pub const TERMINATE: i32 = libc::SIGTERM;
    /// The terminal is gone; daemons read their configuration again: `SIGHUP`.
    pub const HANG_UP: i32 = libc::SIGHUP;
    /// Ctrl-\: `SIGQUIT`.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// The first for the program's own use: `SIGUSR1`.
    pub const USER1: i32 = libc::SIGUSR1;
    /// The second for the program's own use: `SIGUSR2`.
    pub const USER2: i32 = libc::SIGUSR2;
    /// A child has ended or stopped: `SIGCHLD`.
    pub const CHILD: i32 = libc::SIGCHLD;
    /// A timer of the process has run out: `SIGALRM`.
    pub const ALARM: i32 = libc::SIGALRM;
    /// A write found no reader: `SIGPIPE`.
    pub const PIPE: i32 = libc::SIGPIPE;
    /// The terminal has another size: `SIGWINCH`.
    pub const WINDOW_CHANGE: i32 = libc::SIGWINCH;
    /// A descriptor is ready, for those who asked the kernel to say so: `SIGIO`.
    pub const IO: i32 = libc::SIGIO;
    /// The process goes on after a stop: `SIGCONT`.
    pub const CONTINUE: i32 = libc::SIGCONT;

    /// Begins to listen for the signal `signum`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that is no signal, for `SIGKILL`
    /// and `SIGSTOP`, which no process hears, and for those that report a fault of the program
    /// itself (`SIGSEGV` and its like), from which a handler cannot return. What the system reports
    /// when no descriptor is left.
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

    /// Reports whether the signal has come since the last look, and makes the descriptor
    /// unreadable until it comes again.
    ///
    /// # Errors
    /// What the system says; an error in a forked child, which would take the parent's signal.
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
        // Loading takes a lock of its own.
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
