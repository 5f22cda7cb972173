//! Taking the output of a task out of its slot.

use std::any::Any;
use std::mem;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::tasks::Tasks;
use crate::tasks::slot::Flags;
use crate::tasks::stage::TaskBox;

/// The state of a task for its join handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// The task has not finished.
    Running,
    /// Its output can be taken.
    Finished,
    /// There is no such task.
    Gone,
}

impl Tasks {
    /// Returns the state of a task.
    #[inline]
    pub(crate) fn look_up(&self, id: Token) -> Join {
        match self.slots.get(id.slot()) {
            Some(slot) if slot.id == id && slot.flags.has(Flags::FINISHED) => Join::Finished,
            Some(slot) if slot.id == id => Join::Running,
            _ => Join::Gone,
        }
    }

    /// Registers `waker` to be woken when a task finishes, if it has not finished.
    ///
    /// The caller drops what is in `waker` afterwards outside the borrow.
    #[inline]
    pub(crate) fn join(&mut self, id: Token, waker: &mut Option<Waker>) -> Join {
        let join = self.look_up(id);
        if join == Join::Running {
            mem::swap(&mut self.slots[id.slot()].joiner, waker);
        }
        join
    }

    /// Moves the output of a finished task to `into`, and frees the slot.
    pub(crate) fn take_output(&mut self, id: Token, into: &mut dyn Any) {
        let slot = &mut self.slots[id.slot()];
        let Some(mut task) = slot.task.take() else { return };
        task.as_mut().take_output(into);
        debug_assert!(slot.joiner.is_none(), "a finished task has woken its joiner");
        if slot.flags.has(Flags::EXTRAS) {
            self.extras.remove(&id.slot());
        }
        if slot.vacate(task, &mut self.spare_bytes) {
            self.slots.free(id.slot());
        } else {
            self.retire(id.slot());
        }
    }

    /// Records that no handle will take the output of `id`. Returns `None` if there is no such task.
    ///
    /// Returns the box of a finished task, to be cleared and passed to [`free`](Tasks::free), and the registered waker.
    pub(crate) fn detach(&mut self, id: Token) -> Option<(Option<TaskBox>, Option<Waker>)> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id)?;
        slot.flags.clear(Flags::JOINED);
        let finished = slot.flags.has(Flags::FINISHED);
        if finished {
            slot.flags.clear(Flags::FINISHED);
            slot.flags.set(Flags::RUNNING);
        }
        Some((if finished { slot.task.take() } else { None }, slot.joiner.take()))
    }
}
