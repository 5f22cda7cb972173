//! A loop that a host drives turn by turn: its turn, and the descriptor that is readable when one is due.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use polyloop_reactor::PollableFd;

use crate::event_loop::EventLoop;
use crate::event_loop::wait::SleepLimit;
use crate::runtime::next_turn::NextTurn;
use crate::time::clock::{self, Stopwatch};

/// Announces due turns when it is dropped, so that a host is notified despite a panic.
pub(crate) struct Announce<'a>(pub(crate) &'a EventLoop);

impl Drop for Announce<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.announce();
    }
}

impl EventLoop {
    /// Runs one turn for a host: waits for up to `timeout`, then polls tasks until none is ready or `budget` is
    /// spent.
    ///
    /// Afterwards the mailbox counts as asleep, so that a message from another thread makes the
    /// selector's descriptor readable; [`resume`](EventLoop::resume) ends that.
    pub(crate) fn turn(&self, timeout: Option<Duration>, budget: Duration) -> io::Result<NextTurn> {
        /// Leaves the mailbox asleep, however the turn ends.
        struct Park<'a>(&'a EventLoop);

        impl Drop for Park<'_> {
            fn drop(&mut self) {
                self.0.clear_current_task();
                self.0.is_turning.set(false);
                // Fails, as intended, if messages have arrived: then the next turn is due at once.
                self.0.mailbox.park();
                self.0.announce();
            }
        }

        self.resume();
        self.is_hosted.set(true);
        self.is_turning.set(true);
        let park = Park(self);
        if self.mailbox.has_messages() {
            self.take_messages();
        }
        if self.tasks.borrow().n_ready() > 0 {
            self.poll_events_between()?;
        } else {
            self.sleep(timeout.map_or(SleepLimit::NextTimer, SleepLimit::Host))?;
        }
        // The budget starts here, because the host has requested the wait.
        let start = Stopwatch::start();
        loop {
            if self.mailbox.has_messages() {
                self.take_messages();
            }
            self.run_ready(&mut |_| false, || start.elapsed() >= budget);
            if self.tasks.borrow().n_ready() == 0 || start.elapsed() >= budget {
                break;
            }
            // Tasks that became ready meanwhile are polled within the budget.
            self.poll_events(Some(Duration::ZERO))?;
        }
        self.wake_more_waiters();
        drop(park);
        Ok(self.next_turn())
    }

    /// Wakes more of the waiters of a source that stayed ready, before a host would sleep.
    #[inline(never)]
    fn wake_more_waiters(&self) {
        if self.reactor.borrow().is_unfinished() {
            self.reactor.borrow_mut().wake_more(&mut self.collected.borrow_mut());
            self.wake_collected();
        }
    }

    /// Unparks the mailbox, which a turn for a host has left parked.
    #[inline]
    pub(crate) fn resume(&self) {
        if self.is_hosted.get() {
            self.is_hosted.set(false);
            self.mailbox.unpark();
        }
    }

    /// Returns when the next turn is due.
    pub(crate) fn next_turn(&self) -> NextTurn {
        if self.is_due() {
            return NextTurn::Now;
        }
        let timer = self.timers.borrow_mut().next_deadline_ns();
        let timer = timer.filter(|deadline_ns| !self.is_held_before(Some(*deadline_ns)));
        if timer.is_some_and(|ns| self.clock.is_virtual() || ns <= self.clock.now_ns()) {
            // The turn itself advances a virtual clock to the deadline.
            return NextTurn::Now;
        }
        let timer = timer.and_then(clock::instant_of);
        let rest = self.reactor.borrow().next_backoff_end();
        let earliest = timer.into_iter().chain(rest).min();
        earliest.map_or(NextTurn::OnEvent, NextTurn::At)
    }

    /// Reports whether a turn has something to do already.
    fn is_due(&self) -> bool {
        let has_events = || {
            let reactor = self.reactor.borrow();
            reactor.is_unfinished() || reactor.has_more()
        };
        self.tasks.borrow().n_ready() > 0 || self.mailbox.has_messages() || has_events()
    }

    /// Duplicates the selector's descriptor for a host, and keeps it readable from now on whenever a turn is due. Returns
    /// `None` if the backend has no descriptor.
    ///
    /// # Errors
    /// Returns an error if no descriptor is free for the duplicate or the timer.
    pub(crate) fn open_pollable_fd(&self) -> io::Result<Option<OwnedFd>> {
        let reactor = self.reactor.borrow();
        let Some(fd) = reactor.pollable_fd() else { return Ok(None) };
        // A duplicate, because the original is inside a cell.
        let fd = fd.try_clone_to_owned()?;
        drop(reactor);
        self.begin_to_announce()?;
        Ok(Some(fd))
    }

    /// Fills `fds` with all descriptors that a host has to watch.
    pub(crate) fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        fds.clear();
        self.begin_to_announce()?;
        self.reactor.borrow().pollable_fds(fds)
    }

    /// Keeps the selector's descriptor readable from now on whenever a turn is due.
    ///
    /// # Errors
    /// Returns an error if no descriptor is free for the timer.
    fn begin_to_announce(&self) -> io::Result<()> {
        self.reactor.borrow_mut().open_timer()?;
        self.is_watched.set(true);
        if !self.is_running() {
            self.leave_to_host();
        }
        Ok(())
    }

    /// Leaves the mailbox asleep, so that messages make the selector's descriptor readable.
    #[cold]
    pub(super) fn leave_to_host(&self) {
        self.is_hosted.set(true);
        // Fails if messages have arrived, or if a turn has already parked it.
        self.mailbox.park();
        self.announce();
    }

    /// Makes the selector's descriptor readable, for a host that watches it, when a turn is due for another reason than
    /// an event: now, if tasks are ready, messages arrived while the loop was awake, or the last turn left events; later,
    /// if there is a timer.
    #[inline]
    pub(crate) fn announce(&self) {
        if self.is_watched.get() && !self.is_running() && !self.fork.is_foreign() {
            self.announce_due();
        }
    }

    /// Runs `f`, and announces a due turn, even if `f` panics.
    pub(crate) fn announcing<R>(&self, f: impl FnOnce() -> R) -> R {
        let _announce = Announce(self);
        f()
    }

    #[cold]
    fn announce_due(&self) {
        // Either fails only if the system is out of memory; `next_turn` reports the turn as well.
        let _ = match self.next_turn() {
            NextTurn::Now => {
                let notifier = self.reactor.borrow().notifier();
                notifier.and_then(|notifier| notifier.notify())
            }
            NextTurn::At(deadline) => self.reactor.borrow_mut().set_timer(deadline),
            NextTurn::OnEvent => Ok(()),
        };
    }
}
