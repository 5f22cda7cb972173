//! Draining the slots when their loop ends.

use std::task::Waker;

use polyloop_reactor::Token;

use crate::tasks::Tasks;
use crate::tasks::slot::Flags;
use crate::tasks::stage::TaskBox;

/// The contents of a slot at the end of its loop.
pub(crate) struct Drained {
    pub(crate) id: Token,
    pub(crate) task: Option<TaskBox>,
    pub(crate) joiner: Option<Waker>,
    /// The box holds an output, and there is a handle that will take it.
    pub(crate) is_awaited: bool,
}

impl Tasks {
    /// Returns a task that has not finished, if there is one, from slot `from` on.
    pub(crate) fn find_unfinished(&self, from: u32) -> Option<Token> {
        let unfinished = self.slots.find(from, |slot| {
            slot.flags.has(Flags::TAKEN) && !slot.flags.has(Flags::FINISHED.and(Flags::RUNNING))
        });
        unfinished.map(|slot| slot.id)
    }

    /// Returns a number past those of all slots.
    pub(crate) fn end(&self) -> u32 {
        self.slots.end()
    }

    /// Takes the contents of the slot at `index`, to be dropped outside the borrow. Returns `None` if there is no such slot.
    pub(crate) fn drain_slot(&mut self, index: u32) -> Option<Drained> {
        let slot = self.slots.get_mut(index)?;
        let is_awaited = slot.flags.has(Flags::FINISHED);
        let (task, joiner) = (slot.task.take(), slot.joiner.take());
        Some(Drained { id: slot.id, task, joiner, is_awaited })
    }
}
