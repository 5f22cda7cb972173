//! Tasks as [`TaskInfo`] describes them.

use std::panic::Location;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::inspect::notes::Notes;
use crate::task::id::TaskId;
use crate::task::info::{TaskInfo, TaskState};
use crate::tasks::Tasks;
use crate::tasks::numbers::{NO_TASK, is_main};
use crate::tasks::slot::{Flags, Slot};

impl Tasks {
    /// Describes a task, but for what it waits for. `main_at` is where `block_on` was called.
    pub(crate) fn describe(
        &self,
        id: Token,
        main_at: Option<&'static Location<'static>>,
    ) -> Option<TaskInfo> {
        self.slot(id).map(|slot| self.info(slot, main_at))
    }

    /// Describes all tasks, each with the notes that it left. The main future comes first, if
    /// `main_at` says where it came from.
    pub(crate) fn describe_all(
        &self,
        main_at: Option<&'static Location<'static>>,
    ) -> impl Iterator<Item = (TaskInfo, Notes)> {
        let slots = self.taken(main_at.is_some());
        slots.map(move |slot| (self.info(slot, main_at), slot.fresh_notes()))
    }

    /// Lists the tasks whose end is awaited, each with the waker of its joiner.
    pub(crate) fn joiners(&self) -> impl Iterator<Item = (Token, &Waker)> {
        self.slots.iter().filter_map(|slot| Some((slot.id, slot.joiner.as_ref()?)))
    }

    /// Lists the notes of the tasks that are not over.
    pub(crate) fn notes(&self, has_main: bool) -> impl Iterator<Item = Notes> {
        let slots = self.taken(has_main).filter(|slot| !slot.flags.has(Flags::FINISHED));
        slots.map(Slot::fresh_notes)
    }

    fn taken(&self, has_main: bool) -> impl Iterator<Item = &Slot> {
        let main = self.slots.get(self.main).filter(|_| has_main).into_iter();
        main.chain(self.slots.iter().filter(|slot| slot.flags.has(Flags::TAKEN)))
    }

    fn info(&self, slot: &Slot, main_at: Option<&'static Location<'static>>) -> TaskInfo {
        let state = if slot.flags.has(Flags::FINISHED) {
            TaskState::Finished
        } else if slot.flags.has(Flags::RUNNING) {
            TaskState::Running
        } else if slot.flags.has(Flags::SCHEDULED) {
            TaskState::Ready
        } else {
            TaskState::Waiting
        };
        let is_main = is_main(slot.id);
        let extras = slot.flags.has(Flags::EXTRAS).then(|| self.extras.get(&slot.id.slot()));
        TaskInfo {
            id: TaskId::new(slot.id),
            name: self.name(slot.id),
            parent: (!is_main && slot.parent != NO_TASK).then(|| TaskId::new(slot.parent)),
            spawned_at: main_at.filter(|_| is_main).unwrap_or(slot.spawned_at),
            state,
            polls: slot.n_polls,
            busy: extras.flatten().and_then(|extras| extras.busy),
            waits_for: Vec::new(),
        }
    }
}
