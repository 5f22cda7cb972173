//! What only some tasks have: a name, callbacks, a handle that was polled elsewhere.

use std::any::Any;
use std::mem;
use std::pin::Pin;
use std::time::Duration;

use polyloop_reactor::Token;

use crate::tasks::slot::Flags;
use crate::tasks::stage::AnyTask;
use crate::tasks::{Deferred, Join, Tasks};

/// What only some tasks have.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) name: Option<Box<str>>,
    pub(super) callbacks: Vec<Callback>,
    /// Takes the output to a handle that was polled elsewhere.
    pub(super) delivery: Option<Delivery>,
    /// It waits for things that do not keep the loop from being called stuck.
    is_daemon: bool,
    /// The time that its polls have taken, in debug mode.
    pub(super) busy: Option<Duration>,
}

/// Is called with a reference to the task's `Result<T, JoinError>` when that is there.
pub(crate) type Callback = Box<dyn FnOnce(&dyn Any)>;

/// Takes the output out of the box of a task that is over, and sends it to where its handle is.
pub(crate) type Delivery = Box<dyn FnOnce(Pin<&mut dyn AnyTask>)>;

impl Tasks {
    /// Adds to the time that a task's polls have taken, in debug mode.
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

    /// Says that a task waits for what does not count as work to come.
    pub(crate) fn set_daemon(&mut self, id: Token) {
        if let Some(extras) = self.extras(id) {
            extras.is_daemon = true;
        }
    }

    pub(crate) fn is_daemon(&self, id: Token) -> bool {
        self.extras.get(&id.slot()).is_some_and(|extras| extras.is_daemon)
    }

    /// Leaves a callback to be shown the output of a task. If that is there already, what is to be
    /// done now is returned; if the task is gone, the callback stays where it is.
    pub(crate) fn watch(&mut self, id: Token, callback: &mut Option<Callback>) -> Option<Deferred> {
        match self.look_up(id) {
            Join::Running => {
                let callback = callback.take();
                self.extras(id)?.callbacks.extend(callback);
                None
            }
            Join::Finished => {
                let slot = &mut self.slots[id.slot()];
                let task = slot.task.take()?;
                slot.flags.clear(Flags::FINISHED);
                slot.flags.set(Flags::RUNNING);
                self.extras(id)?.callbacks.extend(callback.take());
                Some(Deferred::Watched(task))
            }
            Join::Gone => None,
        }
    }

    /// Leaves what will take the output of a task to its handle. If the output is there already,
    /// what is to be done now is returned; if the task is gone, the delivery stays where it is.
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
                let slot = &mut self.slots[id.slot()];
                let task = slot.task.take()?;
                slot.flags.clear(Flags::FINISHED);
                slot.flags.set(Flags::RUNNING);
                self.extras(id)?.delivery = delivery.take();
                Some(Deferred::Delivered(task))
            }
            Join::Gone => None,
        }
    }

    /// Takes the callbacks that wait for the output of a task.
    pub(crate) fn take_callbacks(&mut self, id: Token) -> Vec<Callback> {
        let extras = self.extras.get_mut(&id.slot());
        extras.map(|extras| mem::take(&mut extras.callbacks)).unwrap_or_default()
    }

    /// Takes what will take the output of a task to its handle.
    pub(crate) fn take_delivery(&mut self, id: Token) -> Option<Delivery> {
        self.extras.get_mut(&id.slot())?.delivery.take()
    }

    /// Lends what only some tasks have, and makes it if need be; none if there is no such task.
    fn extras(&mut self, id: Token) -> Option<&mut Extras> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id)?;
        slot.flags.set(Flags::EXTRAS);
        if id.slot() == self.main {
            // The next main future does not inherit them.
            self.n_mains_left = 0;
        }
        Some(self.extras.entry(id.slot()).or_default())
    }
}
