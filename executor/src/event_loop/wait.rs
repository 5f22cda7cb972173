//! Waiting for events, and waking the tasks that wait for them.

use std::hint;
use std::io;
use std::mem;
use std::time::Duration;

use polyloop_reactor::Collected;

use crate::event_loop::mailbox::Mailbox;
use crate::event_loop::{EventLoop, POLLS_PER_EVENT_POLL};
use crate::raw::waker::id_of;

/// What a sleep counts for when memory is released, in event polls of a busy loop.
const STEPS_PER_SLEEP: u32 = 256;

/// How long a loop sleeps at most while it has memory to release.
const STEP_AGAIN: Duration = Duration::from_millis(2);

/// How long the loop may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SleepLimit {
    /// Up to the next timer or, without one, until an event.
    NextTimer,
    /// Up to the next timer, but at most this long.
    Host(Duration),
}

impl EventLoop {
    /// Waits for events, because no task is ready.
    pub(super) fn sleep(&self, limit: SleepLimit) -> io::Result<()> {
        /// Unparks the mailbox, however the wait ends: a mailbox that stays parked would refuse every later sleep.
        struct Unpark<'a>(&'a Mailbox);

        impl Drop for Unpark<'_> {
            fn drop(&mut self) {
                self.0.unpark();
            }
        }

        let has_more = self.tasks.borrow_mut().tidy(STEPS_PER_SLEEP);
        let deadline_ns = self.timers.borrow_mut().next_deadline_ns();
        // While virtual time is held, a later deadline does not end the wait.
        let is_held = self.is_held_before(deadline_ns);
        if self.clock.is_virtual() && deadline_ns.is_some() && !is_held {
            return self.skip(deadline_ns);
        }
        let timeout = deadline_ns.filter(|_| !is_held).map(|deadline_ns| {
            Duration::from_nanos(deadline_ns.saturating_sub(self.clock.now_ns()))
        });
        let timeout = match limit {
            SleepLimit::Host(limit) => Some(timeout.map_or(limit, |timeout| timeout.min(limit))),
            SleepLimit::NextTimer => {
                let may_be_stuck = || timeout.is_none() && !is_held && !self.mailbox.has_messages();
                if self.debug.is_some() && may_be_stuck() {
                    self.check_stuck()?;
                }
                if has_more {
                    // Memory is released in small steps, so the loop wakes up for the next one.
                    Some(timeout.map_or(STEP_AGAIN, |timeout| timeout.min(STEP_AGAIN)))
                } else {
                    timeout
                }
            }
        };
        // A host that sets a limit expects to return by then.
        let may_spin = match limit {
            SleepLimit::Host(limit) => limit.as_nanos() > self.spin.limit_ns().into(),
            SleepLimit::NextTimer => true,
        };
        if may_spin && self.spin.pays() && self.spin()? || !self.mailbox.park() {
            return Ok(());
        }
        let start_ns = if self.spin.is_on() { self.clock.now_ns() } else { 0 };
        let parked = Unpark(self.mailbox);
        let polled = self.poll_events(timeout);
        drop(parked);
        if self.spin.is_on() {
            self.spin.note_sleep(self.clock.now_ns().saturating_sub(start_ns));
        }
        polled
    }

    /// Polls for events repeatedly for a while. Returns `true` if there was an event.
    #[cold]
    fn spin(&self) -> io::Result<bool> {
        let start_ns = self.clock.now_ns();
        loop {
            self.poll_events(Some(Duration::ZERO))?;
            let paid = self.mailbox.has_messages() || self.tasks.borrow().n_ready() > 0;
            if paid || self.clock.now_ns().saturating_sub(start_ns) >= self.spin.limit_ns() {
                self.spin.note(paid);
                return Ok(paid);
            }
            hint::spin_loop();
        }
    }

    /// Advances a virtual clock to the next deadline, unless a descriptor is ready.
    fn skip(&self, deadline_ns: Option<u64>) -> io::Result<()> {
        self.poll_events(Some(Duration::ZERO))?;
        if self.tasks.borrow().n_ready() == 0
            && !self.mailbox.has_messages()
            && let Some(deadline_ns) = deadline_ns
        {
            self.clock.advance_to(deadline_ns);
            self.fire_timers();
        }
        Ok(())
    }

    /// Polls for events between two tasks, because tasks stay ready.
    pub(super) fn poll_events_between(&self) -> io::Result<()> {
        self.tasks.borrow_mut().tidy(1);
        self.poll_events(Some(Duration::ZERO))
    }

    /// Polls the selector, and moves the tasks of events and due timers to the ready queue.
    pub(super) fn poll_events(&self, timeout: Option<Duration>) -> io::Result<()> {
        /// Wakes the collected tasks, even if the selector fails or panics.
        struct WakeCollected<'a>(&'a EventLoop);

        impl Drop for WakeCollected<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.wake_collected();
            }
        }

        self.next_event_poll.set(self.n_polls.get() + POLLS_PER_EVENT_POLL);
        // Messages have a separate flag, so a loop without sources has nothing to poll for.
        // The notifier may have woken a host's loop, and only the selector clears it.
        let is_needed = timeout != Some(Duration::ZERO) || self.is_hosted.get();
        if is_needed || self.reactor.borrow().sources() > 0 {
            let wake = WakeCollected(self);
            self.reactor.borrow_mut().turn(timeout, &mut self.collected.borrow_mut())?;
            drop(wake);
        }
        self.fire_timers();
        Ok(())
    }

    /// Wakes the tasks that the reactor has collected.
    #[inline(always)]
    pub(super) fn wake_collected(&self) {
        // Wakers of this crate are queued directly; the others may be foreign.
        let mut collected = self.collected.borrow_mut();
        let mut tasks = self.tasks.borrow_mut();
        collected.retain_wakers(|waker| match id_of(waker) {
            Some(id) if id.owner() == self.number() => {
                tasks.wake(id);
                false
            }
            _ => true,
        });
        drop(tasks);
        if !collected.is_empty() {
            let foreign = mem::take(&mut *collected);
            drop(collected);
            self.wake_foreign(foreign);
        }
    }

    #[cold]
    fn wake_foreign(&self, mut foreign: Collected) {
        foreign.wake_all();
        // Both lists are empty now.
        *self.collected.borrow_mut() = foreign;
    }
}
