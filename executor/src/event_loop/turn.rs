//! One turn of the loop, as asyncio's `_run_once`: messages, events, timers, tasks.

use std::io;
use std::panic::Location;
use std::task::{Context, Poll};

use polyloop_reactor::Token;

use crate::event_loop::wait::SleepLimit;
use crate::event_loop::{EventLoop, PollMain};
use crate::inspect::notes::Notes;
use crate::raw::waker::lend_waker;
use crate::tasks::Next;
use crate::tasks::numbers::NO_ROOM;
use crate::time::clock::Stopwatch;

impl EventLoop {
    /// Runs turns until `main` completes, which has been polled once.
    pub(crate) fn run_until(&self, main: &mut PollMain<'_>) -> io::Result<()> {
        while !self.run_once(main)? {}
        Ok(())
    }

    /// Runs one turn. Returns `true` once `main` has completed.
    fn run_once(&self, main: &mut PollMain<'_>) -> io::Result<bool> {
        // 1. Messages from other threads.
        if self.mailbox.has_messages() {
            self.take_messages();
        }

        // 2. to 4. Descriptors and timers: sleep if no task is ready, else poll for events from time to time.
        if self.tasks.borrow().n_ready() == 0 {
            self.sleep(SleepLimit::NextTimer)?;
        } else if self.n_polls.get() >= self.next_event_poll.get() {
            self.poll_events_between()?;
        }

        // 5. Tasks.
        Ok(self.run_ready(main, || false))
    }

    /// Polls ready tasks in FIFO order until the queue is empty, the next poll for events is due, or `is_spent` after a poll.
    /// Returns `true` once `main` has completed.
    pub(super) fn run_ready(&self, main: &mut PollMain<'_>, is_spent: impl Fn() -> bool) -> bool {
        let mut tasks = self.tasks.borrow_mut();
        while self.n_polls.get() < self.next_event_poll.get() {
            let Some(next) = tasks.next() else { break };
            self.n_polls.set(self.n_polls.get() + 1);
            match next {
                Next::Stale => {}
                Next::Main(id) => {
                    drop(tasks);
                    if self.poll_main(id, &mut *main) {
                        return true;
                    }
                    tasks = self.tasks.borrow_mut();
                    tasks.note(id, self.notes.get());
                }
                Next::Task(id, mut task) => {
                    drop(tasks);
                    self.begin_poll(id);
                    let polled = match &self.debug {
                        None => lend_waker(id, |waker| {
                            task.as_mut().poll(&mut Context::from_waker(waker))
                        }),
                        Some(debug) => self.watch_poll(debug, id, task.as_mut()),
                    };
                    tasks = self.tasks.borrow_mut();
                    let deferred = match polled {
                        Poll::Pending => tasks.put_back(id, task, self.notes.get()),
                        Poll::Ready(()) => tasks.finish(id, task),
                    };
                    if let Some(deferred) = deferred {
                        drop(tasks);
                        self.run_deferred(id, deferred);
                        tasks = self.tasks.borrow_mut();
                    }
                    if is_spent() {
                        break;
                    }
                }
            }
        }
        false
    }

    /// Polls the future of `block_on`.
    #[inline]
    pub(crate) fn poll_main<R>(&self, id: Token, main: impl FnOnce(&mut Context<'_>) -> R) -> R {
        self.begin_poll(id);
        let watch = self.debug.as_ref().map(|debug| (debug, Stopwatch::start()));
        let polled = lend_waker(id, |waker| main(&mut Context::from_waker(waker)));
        if let Some((debug, start)) = watch {
            self.note_poll(debug, id, start.elapsed());
        }
        polled
    }

    #[inline]
    fn begin_poll(&self, id: Token) {
        self.current_task.set(id);
        self.budget.refill();
        self.notes.set(Notes::NONE);
    }

    /// Announces a future of `block_on`.
    #[inline]
    pub(crate) fn announce_main(&self, called_at: &'static Location<'static>) {
        self.main_at.set(Some(called_at));
    }

    /// Assigns an id to a new future of `block_on`. The loop must be the thread's current one.
    #[inline]
    pub(crate) fn begin_main(&self) -> io::Result<Token> {
        let mut tasks = self.tasks.borrow_mut();
        match tasks.begin_main() {
            Some(id) => Ok(id),
            None => tasks.begin_main_slowly().ok_or_else(no_room),
        }
    }

    /// Stores the notes of the first poll of the main future.
    pub(crate) fn note_main(&self, id: Token) {
        self.tasks.borrow_mut().note(id, self.notes.get());
    }

    /// Records that the future of `block_on` was dropped.
    #[inline]
    pub(crate) fn end_main(&self) {
        self.main_at.set(None);
        self.clear_current_task();
        if self.is_watched.get() {
            self.leave_to_host();
        }
    }

    /// Makes the loop check descriptors and timers after the current poll.
    pub(crate) fn poll_events_soon(&self) {
        self.next_event_poll.set(self.n_polls.get());
    }
}

#[cold]
fn no_room() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, NO_ROOM)
}
