//! The operations of handles and turns on tasks: spawning, aborting, joining, and the deferred work of finished tasks.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::Location;
use std::task::{Context, Poll, Waker};

use polyloop_reactor::Token;

use crate::catch::quietly;
use crate::event_loop::EventLoop;
use crate::tasks::numbers::NO_ROOM;
use crate::tasks::stage::TaskBox;
use crate::tasks::wakers::{clone_if_own, drop_of, wake_of};
use crate::tasks::{Callback, Deferred, Delivery, Join};

/// How deep aborts may nest before further ones wait in a list.
///
/// Deeper than hand-written nesting, so that children end before their parents' destructors continue; shallow enough for a
/// stack of 64 KiB.
const DEFERRED_DEPTH_MAX: u8 = 16;

impl EventLoop {
    /// Reports whether another task can be spawned.
    pub(crate) fn has_room(&self) -> bool {
        self.tasks.borrow_mut().has_room()
    }

    /// Adds a task.
    ///
    /// # Panics
    /// Panics if the task table is full, after the future has been dropped outside any borrow.
    #[inline]
    pub(crate) fn spawn<F>(&self, future: F, spawned_at: &'static Location<'static>) -> Token
    where
        F: Future + 'static,
    {
        let parent = self.current_task.get();
        let mut tasks = self.tasks.borrow_mut();
        let Some(index) = tasks.claim_slot() else {
            drop(tasks);
            refuse(future, spawned_at);
        };
        let id = tasks.insert(index, future, parent, spawned_at);
        drop(tasks);
        if self.is_closing.get() {
            self.abort(id);
        }
        id
    }

    /// Drops a task's future, now or after its poll.
    pub(crate) fn abort(&self, id: Token) {
        let task = self.tasks.borrow_mut().abort(id);
        if let Some(task) = task {
            self.run_deferred(id, Deferred::Aborted(task));
        }
    }

    /// Records that no handle will take a task's output. Returns `false` if there is no such task.
    pub(crate) fn detach(&self, id: Token) -> bool {
        let detached = self.tasks.borrow_mut().detach(id);
        let Some((task, joiner)) = detached else { return false };
        drop_of(joiner);
        if let Some(task) = task {
            self.run_deferred(id, Deferred::Unwanted(task));
        }
        true
    }

    #[inline]
    pub(crate) fn wake(&self, id: Token) -> bool {
        self.tasks.borrow_mut().wake(id)
    }

    /// Returns the state of a task.
    pub(crate) fn look_up(&self, id: Token) -> Join {
        self.tasks.borrow().look_up(id)
    }

    /// Waits until a task has finished.
    #[inline]
    pub(crate) fn poll_join(&self, id: Token, cx: &Context<'_>) -> Poll<Join> {
        if !self.proceed() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Cloning a waker of this crate runs no foreign code, so one borrow is enough.
        let join = match clone_if_own(cx.waker()) {
            Some(waker) => self.leave_joiner(id, waker),
            None => self.leave_foreign_joiner(id, cx.waker()),
        };
        if join == Join::Running { Poll::Pending } else { Poll::Ready(join) }
    }

    #[inline]
    fn leave_joiner(&self, id: Token, waker: Waker) -> Join {
        let mut waker = Some(waker);
        let join = self.tasks.borrow_mut().join(id, &mut waker);
        drop_of(waker);
        join
    }

    /// Clones a waker before the borrow, because a foreign one may do anything, even abort the task.
    #[cold]
    fn leave_foreign_joiner(&self, id: Token, waker: &Waker) -> Join {
        match self.look_up(id) {
            Join::Running => self.leave_joiner(id, waker.clone()),
            join => join,
        }
    }

    /// Moves the output of a finished task to `into`, and frees the slot.
    #[inline]
    pub(crate) fn take_output(&self, id: Token, into: &mut dyn Any) {
        self.tasks.borrow_mut().take_output(id, into);
    }

    pub(crate) fn name(&self, id: Token) -> Option<String> {
        self.tasks.borrow().name(id)
    }

    pub(crate) fn set_name(&self, id: Token, name: String) {
        self.tasks.borrow_mut().set_name(id, name);
    }

    /// Makes a task a daemon: its waits do not prevent a deadlock report.
    pub(crate) fn set_daemon(&self, id: Token) {
        self.tasks.borrow_mut().set_daemon(id);
    }

    /// Adds a callback for the output of a task, or calls it at once if the task has finished, unless [`DEFERRED_DEPTH_MAX`]
    /// callbacks are nested already.
    pub(crate) fn watch(&self, id: Token, callback: Callback) {
        let mut callback = Some(callback);
        let deferred = self.tasks.borrow_mut().watch(id, &mut callback);
        drop(callback);
        if let Some(deferred) = deferred {
            self.run_deferred(id, deferred);
        }
    }

    /// Adds the delivery of a task's output to a handle that was polled elsewhere, or executes it at once.
    pub(crate) fn deliver(&self, id: Token, delivery: Delivery) {
        let mut delivery = Some(delivery);
        let deferred = self.tasks.borrow_mut().deliver(id, &mut delivery);
        // If the delivery is still there, there is no such task, and dropping it reports that to the handle.
        drop(delivery);
        if let Some(deferred) = deferred {
            self.run_deferred(id, deferred);
        }
    }

    /// Executes the deferred work of a poll or an abort, outside any borrow.
    ///
    /// A value that is dropped here may own the handle of a task whose future owns another handle. From some depth on, the
    /// deferred work waits in a list for the innermost call, so that the depth of the stack is bounded for chains of any
    /// length.
    #[inline(never)]
    pub(super) fn run_deferred(&self, id: Token, deferred: Deferred) {
        struct Leave<'a>(&'a Cell<u8>);

        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }

        if self.deferred_depth.get() == DEFERRED_DEPTH_MAX {
            self.deferred.borrow_mut().push_back((id, deferred));
            return;
        }
        self.deferred_depth.set(self.deferred_depth.get() + 1);
        let _leave = Leave(&self.deferred_depth);
        self.run_deferred_now(id, deferred);
        if self.deferred_depth.get() == DEFERRED_DEPTH_MAX {
            self.run_queued();
        }
    }

    /// Executes the deferred work in the list.
    #[cold]
    fn run_queued(&self) {
        loop {
            let next = self.deferred.borrow_mut().pop_front();
            let Some((id, deferred)) = next else { break };
            self.run_deferred_now(id, deferred);
        }
        *self.deferred.borrow_mut() = VecDeque::new();
    }

    #[inline]
    fn run_deferred_now(&self, id: Token, deferred: Deferred) {
        match deferred {
            Deferred::Unwanted(mut task) => {
                task.as_mut().clear();
                self.free(id, task);
            }
            Deferred::Aborted(mut task) => {
                task.as_mut().cancel();
                self.finish(id, task);
            }
            Deferred::Watched(task) => self.show(id, task),
            Deferred::Delivered(task) => self.make_delivery(id, task),
            Deferred::Joiner(waker) => wake_of(waker),
        }
    }

    /// Puts back a finished task, and executes the deferred work.
    #[inline]
    fn finish(&self, id: Token, task: TaskBox) {
        let deferred = self.tasks.borrow_mut().finish(id, task);
        match deferred {
            None => {}
            Some(Deferred::Unwanted(mut task)) => {
                // A cancelled task has no output to drop.
                task.as_mut().clear();
                self.free(id, task);
            }
            Some(deferred) => self.run_finished(id, deferred),
        }
    }

    #[cold]
    fn run_finished(&self, id: Token, deferred: Deferred) {
        self.run_deferred_now(id, deferred);
    }

    /// Calls the callbacks with the output of a task, and puts the task back.
    #[cold]
    fn show(&self, id: Token, mut task: TaskBox) {
        loop {
            let callbacks = self.tasks.borrow_mut().take_callbacks(id);
            for callback in callbacks {
                let mut callback = Some(callback);
                task.as_mut().show_output(&mut |output| {
                    if let Some(callback) = callback.take() {
                        callback(output);
                    }
                });
                quietly(|| drop(callback));
            }
            let deferred = self.tasks.borrow_mut().finish(id, task);
            match deferred {
                None => return,
                // A callback has added another.
                Some(Deferred::Watched(again)) => task = again,
                Some(deferred) => return self.run_deferred_now(id, deferred),
            }
        }
    }

    /// Delivers the output of a task to its handle, which was polled elsewhere.
    #[cold]
    fn make_delivery(&self, id: Token, mut task: TaskBox) {
        let delivery = self.tasks.borrow_mut().take_delivery(id);
        if let Some(delivery) = delivery {
            quietly(|| delivery(task.as_mut()));
        }
        self.free(id, task);
    }

    /// Empties the slot of a finished task whose box is empty.
    #[inline]
    fn free(&self, id: Token, task: TaskBox) {
        let joiner = self.tasks.borrow_mut().free(id, task);
        drop_of(joiner);
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn limit_tasks(&self, max_slots: usize) {
        self.tasks.borrow_mut().limit_to(max_slots);
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn age_tasks(&self, generation: u32) {
        self.tasks.borrow_mut().age_to(generation);
    }
}

/// Drops the future of a task that exceeds the maximum, and panics at the caller's location.
#[cold]
#[track_caller]
pub(crate) fn refuse<F>(future: F, spawned_at: &'static Location<'static>) -> ! {
    quietly(|| drop(future));
    panic!("{NO_ROOM}; the task was to be spawned at {spawned_at}")
}
