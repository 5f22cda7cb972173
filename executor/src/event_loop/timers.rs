//! The loop's timers, and what keeps virtual time from passing.

use std::task::Waker;

use crate::event_loop::EventLoop;
use crate::tasks::wakers::{drop_of, into_id, wake_of};
use crate::time::timer_heap::Polled;
use crate::time::timer_slots::TimerSlot;

/// The timers that fire between two polls for events.
///
/// To fire one takes 50 to 300 ns, so a million that are due at once would keep everything else
/// waiting for a quarter of a second. In 60 µs or less, I/O and the tasks that are ready have
/// their turn; what is due comes after the next poll for events, in order, and that costs each of 256
/// timers about a nanosecond.
const TIMERS_PER_EVENT_POLL: usize = 256;

impl EventLoop {
    /// Wakes the tasks whose deadline has come.
    pub(super) fn fire_timers(&self) {
        let mut timers = self.timers.borrow_mut();
        if timers.next_deadline_ns().is_none() {
            return;
        }
        // One reading for all: a timer that is re-armed with no delay waits for the next turn.
        let now_ns = self.clock.now_ns();
        let mut tasks = self.tasks.borrow_mut();
        for _ in 0..TIMERS_PER_EVENT_POLL {
            let Some(waker) = timers.pop_due(now_ns) else { break };
            match into_id(waker, self.number()) {
                Ok(id) => {
                    tasks.wake(id);
                }
                Err(waker) => {
                    drop((timers, tasks));
                    wake_of(waker);
                    (timers, tasks) = (self.timers.borrow_mut(), self.tasks.borrow_mut());
                }
            }
        }
    }

    /// Arms a timer that wakes `waker` at a deadline; the waker itself if there are as many as there may
    /// be.
    #[inline]
    pub(crate) fn arm_timer(&self, deadline_ns: u64, waker: Waker) -> Result<TimerSlot, Waker> {
        self.timers.borrow_mut().arm(deadline_ns, waker)
    }

    /// Leaves another waker with a timer, or learns that it has fired.
    #[inline]
    pub(crate) fn poll_timer(&self, slot: TimerSlot, waker: Waker) -> Polled {
        self.timers.borrow_mut().poll(slot, waker)
    }

    /// Moves the deadline of a timer; false if it has fired.
    pub(crate) fn reset_timer(&self, slot: TimerSlot, deadline_ns: u64) -> bool {
        self.timers.borrow_mut().reset(slot, deadline_ns)
    }

    /// Forgets a timer whose sleep is gone.
    #[inline]
    pub(crate) fn cancel_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        drop_of(waker);
    }

    /// Forgets a timer and wakes the task that waits for it, so that this arms a new one.
    pub(super) fn release_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        if let Some(waker) = waker {
            wake_of(waker);
        }
    }

    /// Keeps virtual time from passing.
    pub(crate) fn hold_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() + 1);
    }

    /// Takes back a [`hold_time`](EventLoop::hold_time).
    pub(crate) fn release_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() - 1);
    }

    /// Reports whether time is held, so that it does not come to a deadline that is ahead. One that
    /// has come needs no time to pass.
    pub(super) fn is_held_before(&self, deadline_ns: Option<u64>) -> bool {
        self.n_time_holds.get() > 0
            && deadline_ns.is_none_or(|deadline_ns| deadline_ns > self.clock.now_ns())
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn limit_timers(&self, max_chunks: usize) {
        self.timers.borrow_mut().set_max_chunks(max_chunks);
    }
}
