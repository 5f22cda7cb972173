//! Shutting down a loop: cancels its tasks and drops its contents.

use polyloop_reactor::Collected;

use crate::catch::quietly;
use crate::event_loop::EventLoop;
use crate::event_loop::mailbox::{self, Command};
use crate::raw::forward::{leave, renounce_local};
use crate::raw::waker::id_of;
use crate::tasks::Drained;
use crate::tasks::wakers::drop_of;
use crate::time::timer_slots::TimerSlot;

impl EventLoop {
    /// Cancels all tasks, first spawned first, and closes the mailbox.
    ///
    /// The loop must be the thread's current one, so that destructors reach it.
    pub(crate) fn shut_down(&self) {
        self.is_closing.set(true);
        // This does not panic, because panics of foreign destructors are caught. The mailbox must be closed in any case, or
        // a handle that waits for this loop would wait indefinitely.
        quietly(|| self.drain());
        if self.fork.is_foreign() {
            // The number belongs to the parent, and the child has no messages.
            return;
        }
        let generation = self.reactor.borrow().next_generation();
        let generation = self.tasks.borrow().unused_generation(generation);
        for command in mailbox::close(self.number(), generation) {
            quietly(|| match command {
                // Too late to run: dropping the task reports to its handle that it was cancelled.
                Command::Run(call) => drop(call),
                // Its output may already have been kept for a handle that was dropped since.
                Command::Detach(id) if self.tasks.borrow().has_given(id) => renounce_local(id),
                command => self.handle_command(command),
            });
        }
    }

    /// Cancels all tasks, and drops what the loop holds.
    fn drain(&self) {
        self.take_messages();
        let mut next = self.tasks.borrow().find_unfinished(0);
        while let Some(id) = next {
            self.abort(id);
            // A destructor may have spawned into an earlier slot, but such a task is cancelled at once.
            next = self.tasks.borrow().find_unfinished(id.slot());
        }
        self.drain_slots();
    }

    /// Keeps outputs for their handles, and drops the remaining wakers one by one: they may be foreign, and may panic or use
    /// the loop.
    fn drain_slots(&self) {
        let mut next = 0;
        while next < self.tasks.borrow().end() {
            let drained = self.tasks.borrow_mut().drain_slot(next);
            next += 1;
            let Some(Drained { id, task, joiner, is_awaited }) = drained else { continue };
            if let Some(mut task) = task
                && is_awaited
            {
                // Its handle may still take it, when there is no loop left to report the panic.
                task.as_mut().with_error(&mut |error| error.report_now());
                if task.as_mut().has_outcome() {
                    leave(id, task);
                }
            }
            drop_of(joiner);
        }
        let mut slot = TimerSlot::FIRST;
        loop {
            let is_foreign = |waker: &_| id_of(waker).is_none();
            let foreign = self.timers.borrow_mut().take_waker(slot, is_foreign);
            let Some((waker, next)) = foreign else { break };
            slot = next;
            drop_of(Some(waker));
        }
        let mut collected = Collected::default();
        self.reactor.borrow_mut().release_all(&mut collected);
        collected.wake_all();
    }
}
