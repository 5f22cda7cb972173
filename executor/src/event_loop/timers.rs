//! The loop's timers, and holds of virtual time.

use std::task::Waker;

use crate::event_loop::EventLoop;
use crate::tasks::wakers::{drop_of, into_id, wake_of};
use crate::time::timer_heap::Polled;
use crate::time::timer_slots::TimerSlot;

/// The timers that fire between two polls for events.
///
/// Firing a timer takes 50 to 300 ns, so a million due timers would block the loop for a quarter of a second. With this
/// limit, I/O and ready tasks wait for at most 60 µs. The remaining timers fire in order after the next poll for events,
/// which costs each of 256 timers about a nanosecond.
const TIMERS_PER_EVENT_POLL: usize = 256;

impl EventLoop {
    /// Wakes the tasks whose deadline has passed.
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

    /// Arms a timer that wakes `waker` at a deadline. Returns the waker if there is the maximum number of timers.
    #[inline]
    pub(crate) fn arm_timer(&self, deadline_ns: u64, waker: Waker) -> Result<TimerSlot, Waker> {
        self.timers.borrow_mut().arm(deadline_ns, waker)
    }

    /// Replaces the waker of a timer, or reports that it has fired.
    #[inline]
    pub(crate) fn poll_timer(&self, slot: TimerSlot, waker: Waker) -> Polled {
        self.timers.borrow_mut().poll(slot, waker)
    }

    /// Moves the deadline of a timer. Returns `false` if it has fired.
    pub(crate) fn reset_timer(&self, slot: TimerSlot, deadline_ns: u64) -> bool {
        self.timers.borrow_mut().reset(slot, deadline_ns)
    }

    /// Cancels a timer whose sleep was dropped.
    #[inline]
    pub(crate) fn cancel_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        drop_of(waker);
    }

    /// Cancels a timer and wakes the task that waits for it, which then arms a new one.
    pub(super) fn release_timer(&self, slot: TimerSlot) {
        let waker = self.timers.borrow_mut().cancel(slot);
        if let Some(waker) = waker {
            wake_of(waker);
        }
    }

    /// Stops virtual time.
    pub(crate) fn hold_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() + 1);
    }

    /// Ends a [`hold_time`](EventLoop::hold_time).
    pub(crate) fn release_time(&self) {
        self.n_time_holds.set(self.n_time_holds.get() - 1);
    }

    /// Reports whether virtual time is held, so that it does not advance to a later deadline. A deadline that has passed is
    /// not affected.
    pub(super) fn is_held_before(&self, deadline_ns: Option<u64>) -> bool {
        self.n_time_holds.get() > 0
            && deadline_ns.is_none_or(|deadline_ns| deadline_ns > self.clock.now_ns())
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn limit_timers(&self, max_chunks: usize) {
        self.timers.borrow_mut().set_max_chunks(max_chunks);
    }
}
