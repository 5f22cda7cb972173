//! A timer in the selector's set, for hosts that wait for descriptors only.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::Reactor;
use crate::sys::timer::TimerFd;
use crate::{Interest, Mode, Token};

/// A timer that is registered with the selector.
pub(super) struct HostTimer {
    pub(super) fd: TimerFd,
    token: Token,
    /// When it becomes readable, unless a turn has already seen that.
    deadline: Option<Instant>,
}

impl Reactor {
    /// Opens a timer in the selector's set, so that a host that watches the set need not know deadlines.
    /// [`set_timer`](Reactor::set_timer) sets it.
    ///
    /// # Errors
    /// An error such as `EMFILE` if no descriptor is left; the errors of
    /// [`Selector::register`](crate::Selector::register).
    pub fn open_timer(&mut self) -> io::Result<()> {
        if self.timer.is_none() {
            let fd = TimerFd::new()?;
            // Its owner is not that of any source.
            let token = Token::new(self.owner ^ 1, 0, 0);
            self.selector.register(fd.as_fd(), token, Interest::READABLE, Mode::Level)?;
            self.timer = Some(HostTimer { fd, token, deadline: None });
        }
        Ok(())
    }

    /// Makes the set report an event at `deadline`, if a timer has been opened. The event wakes no task.
    ///
    /// A timer that is set to an earlier time does not change, which saves a system call for each
    /// deadline that is postponed or cancelled, and costs one turn that finds nothing.
    ///
    /// # Errors
    /// The error of the system call, which can fail if the program has closed the timer's descriptor.
    pub fn set_timer(&mut self, deadline: Instant) -> io::Result<()> {
        let Some(timer) = &mut self.timer else { return Ok(()) };
        if timer.deadline.is_some_and(|earlier| earlier <= deadline) {
            return Ok(());
        }
        timer.fd.set(Some(deadline.saturating_duration_since(Instant::now())))?;
        timer.deadline = Some(deadline);
        Ok(())
    }
}

/// Clears the timer if `token` is its token.
#[cold]
#[inline(never)]
pub(super) fn clear_if_reported(timer: &mut Option<HostTimer>, token: Token) {
    if let Some(timer) = timer
        && timer.token == token
    {
        timer.deadline = None;
        // It does not fail after an earlier call has succeeded. If it did, the event would be reported again.
        let _ = timer.fd.set(None);
    }
}
