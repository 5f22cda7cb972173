//! A timer in the selector's set, for hosts that wait for descriptors only.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::Reactor;
use crate::sys::timer::TimerFd;
use crate::{Interest, Mode, Token};

/// A timer in the selector's set, as a source is.
pub(super) struct HostTimer {
    pub(super) fd: TimerFd,
    token: Token,
    /// When it becomes readable, unless a turn has seen it.
    deadline: Option<Instant>,
}

impl Reactor {
    /// Adds a timer to the set, so that a host which watches the set need not wait for deadlines. It
    /// is set by [`set_timer`](Reactor::set_timer).
    ///
    /// # Errors
    /// If no descriptor is left; any error of the selector.
    pub fn open_timer(&mut self) -> io::Result<()> {
        if self.timer.is_none() {
            let fd = TimerFd::new()?;
            // Of another owner than all sources.
            let token = Token::new(self.owner ^ 1, 0, 0);
            self.selector.register(fd.as_fd(), token, Interest::READABLE, Mode::Level)?;
            self.timer = Some(HostTimer { fd, token, deadline: None });
        }
        Ok(())
    }

    /// Makes the set report an event at `deadline`, if there is a timer in it. Such an event wakes
    /// no task; the turn that sees it takes it away.
    ///
    /// A timer that is set for an earlier time stays as it is, which spares a system call for each
    /// deadline that is moved back or cancelled and costs one turn in vain.
    ///
    /// # Errors
    /// What the system reports.
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

/// Unsets the timer if it is what an event reports.
#[cold]
#[inline(never)]
pub(super) fn clear_if_reported(timer: &mut Option<HostTimer>, token: Token) {
    if let Some(timer) = timer
        && timer.token == token
    {
        timer.deadline = None;
        // It fails for no timer that could be set before; it would be reported again.
        let _ = timer.fd.set(None);
    }
}
