//! What only some tasks have: a name, callbacks, a handle that was polled elsewhere.

use std::any::Any;
use std::mem;
use std::pin::Pin;
use std::time::Duration;

use polyloop_reactor::Token;

use crate::tasks::slot::Flags;
use crate::tasks::stage::{AnyTask, TaskBox};
use crate::tasks::{Deferred, Join, Tasks};

/// What only some tasks have.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) name: Option<Box<str>>,
    pub(super) callbacks: Vec<Callback>,
    /// Takes the output to a handle that was polled elsewhere.
    pub(super) delivery: Option<Delivery>,
    /// The task is a daemon: its waits do not prevent a deadlock report.
    is_daemon: bool,
    /// The total time of its polls, in debug mode.
    pub(super) busy: Option<Duration>,
}

/// Called with a reference to the task's `Result<T, JoinError>` when the task has finished.
pub(crate) type Callback = Box<dyn FnOnce(&dyn Any)>;

/// Takes the output out of the box of a finished task, and sends it to its handle.
pub(crate) type Delivery = Box<dyn FnOnce(Pin<&mut dyn AnyTask>)>;

impl Tasks {
    /// Adds to the total time of a task's polls, in debug mode.
    pub(crate) fn add_busy(&mut self, id: Token, time: Duration) {
        if let Some(extras) = self.extras(id) {
            *extras.busy.get_or_insert_default() += time;
        }
    }

    pub(crate) fn set_name(&mut self, id: Token, name: String) {
        if let Some(extras) = self.extras(id) {
            extras.name = Some(name.into_boxed_str());
        }
    }

    pub(crate) fn name(&self, id: Token) -> Option<String> {
        self.extras.get(&self.slot(id)?.id.slot())?.name.as_deref().map(str::to_owned)
    }

    /// Makes a task a daemon, whose waits do not prevent a deadlock report.
    pub(crate) fn set_daemon(&mut self, id: Token) {
        if let Some(extras) = self.extras(id) {
            extras.is_daemon = true;
        }
    }

    pub(crate) fn is_daemon(&self, id: Token) -> bool {
        self.extras.get(&id.slot()).is_some_and(|extras| extras.is_daemon)
    }

    /// Adds a callback for the output of a task. If the task has finished, the deferred work is returned; if there is no such
    /// task, the callback stays in place.
    pub(crate) fn watch(&mut self, id: Token, callback: &mut Option<Callback>) -> Option<Deferred> {
        match self.look_up(id) {
            Join::Running => {
                let callback = callback.take();
                self.extras(id)?.callbacks.extend(callback);
                None
            }
            Join::Finished => {
                let task = self.take_finished(id)?;
                self.extras(id)?.callbacks.extend(callback.take());
                Some(Deferred::Watched(task))
            }
            Join::Gone => None,
        }
    }

    /// Adds the delivery of a task's output to its handle. If the task has finished, the deferred work is returned; if there
    /// is no such task, the delivery stays in place.
    pub(crate) fn deliver(
        &mut self,
        id: Token,
        delivery: &mut Option<Delivery>,
    ) -> Option<Deferred> {
        match self.look_up(id) {
            Join::Running => {
                self.extras(id)?.delivery = delivery.take();
                None
            }
            Join::Finished => {
                let task = self.take_finished(id)?;
                self.extras(id)?.delivery = delivery.take();
                Some(Deferred::Delivered(task))
            }
            Join::Gone => None,
        }
    }

    /// Takes the box of a finished task, which is running until the deferred work is done.
    fn take_finished(&mut self, id: Token) -> Option<TaskBox> {
        let slot = &mut self.slots[id.slot()];
        let task = slot.task.take()?;
        slot.flags.clear(Flags::FINISHED);
        slot.flags.set(Flags::RUNNING);
        Some(task)
    }

    /// Takes the callbacks that wait for the output of a task.
    pub(crate) fn take_callbacks(&mut self, id: Token) -> Vec<Callback> {
        let extras = self.extras.get_mut(&id.slot());
        extras.map(|extras| mem::take(&mut extras.callbacks)).unwrap_or_default()
    }

    /// Takes the delivery of a task's output.
    pub(crate) fn take_delivery(&mut self, id: Token) -> Option<Delivery> {
        self.extras.get_mut(&id.slot())?.delivery.take()
    }

    /// Returns a task's extras, and creates them if necessary. Returns `None` if there is no such task.
    fn extras(&mut self, id: Token) -> Option<&mut Extras> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id)?;
        slot.flags.set(Flags::EXTRAS);
        if id.slot() == self.main {
            // The next main future must not inherit them.
            self.n_mains_left = 0;
        }
        Some(self.extras.entry(id.slot()).or_default())
    }
}
