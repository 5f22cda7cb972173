//! All tasks of a loop: a table of slots, and the queue of those that are ready.
//!
//! [`slot`] draws the states of a task. Only [`stage`] runs foreign code: nothing else in this folder polls or drops a
//! future, or wakes, clones or drops a foreign waker. So the loop can keep the tasks in a `RefCell` that is never borrowed
//! twice.

mod slot;

mod ready_queue;

mod extras;

mod outputs;

mod drain;

mod main_future;

mod describe;

pub(crate) mod numbers;

pub(crate) mod table;

pub(crate) mod stage;

pub(crate) mod wakers;

#[cfg(test)]
mod tests;

#[cfg(all(test, not(loom)))]
mod limit_tests;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::Location;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::event_loop::shuffle::Shuffle;
use crate::inspect::notes::Notes;
use crate::tasks::extras::Extras;
use crate::tasks::numbers::{LAST_GENERATION, MAX_SLOTS};
use crate::tasks::ready_queue::ReadyQueue;
use crate::tasks::slot::{Flags, Slot};
use crate::tasks::stage::{TaskBox, new_task};
use crate::tasks::table::Table;
use crate::tasks::wakers::into_id;
pub(crate) use drain::Drained;
pub(crate) use extras::{Callback, Delivery};
pub(crate) use outputs::Join;

/// How often the ready queue is checked for unused capacity, in steps of
/// [`Tasks::tidy`].
const STEPS_PER_TRIM: u32 = 64;

/// Holds the tasks of one loop.
pub(crate) struct Tasks {
    slots: Table<Slot>,
    ready: ReadyQueue,
    /// The slot of the future that `block_on` polls itself. It never holds a box.
    main: u32,
    /// How many ids that slot has left; zero if there is something else to do first.
    n_mains_left: u32,
    /// The slots that are neither free nor hold a task: the main future's, and the spent ones.
    n_apart: usize,
    owner: u16,
    /// The generation with which the loop started.
    base_generation: u32,
    /// The bytes of all boxes in free slots.
    spare_bytes: usize,
    /// The steps of [`tidy`](Tasks::tidy) since the ready queue was checked.
    n_steps: u32,
    /// By slot: what only some tasks have. It has an entry if and only if the slot's flag is set.
    /// A tree, which grows and shrinks in small steps.
    extras: BTreeMap<u32, Extras>,
}

/// The next entry of the ready queue.
pub(crate) enum Next {
    /// The future of `block_on`.
    Main(Token),
    /// A task, taken out of its slot until [`Tasks::put_back`] or [`Tasks::finish`].
    Task(Token, TaskBox),
    /// An entry without a task to poll.
    Stale,
}

/// Deferred work for a task, outside the borrow.
pub(crate) enum Deferred {
    /// It was aborted: drop its future, then [`finish`](Tasks::finish) it.
    Aborted(TaskBox),
    /// Show its output to its [`callbacks`](Tasks::take_callbacks), then
    /// [`finish`](Tasks::finish) it.
    Watched(TaskBox),
    /// Make its [`delivery`](Tasks::take_delivery), then [`free`](Tasks::free) the slot.
    Delivered(TaskBox),
    /// No handle takes its output: drop the output, then [`free`](Tasks::free) the slot.
    Unwanted(TaskBox),
    /// Wake the task that waits for the output, on another loop or under another executor.
    Joiner(Waker),
}

impl Tasks {
    pub(crate) fn new(owner: u16, first_generation: u32, shuffle: Option<Shuffle>) -> Tasks {
        let mut tasks = Tasks {
            slots: Table::new(MAX_SLOTS, first_generation),
            ready: ReadyQueue::new(shuffle),
            main: 0,
            n_mains_left: 0,
            n_apart: 0,
            owner,
            base_generation: first_generation,
            spare_bytes: 0,
            n_steps: 0,
            extras: BTreeMap::new(),
        };
        tasks.move_main().expect("a new loop has room for its main future");
        tasks
    }

    /// Lowers the maximum number of tasks, including the main future.
    #[cfg(test)]
    pub(crate) fn limit_to(&mut self, max_slots: usize) {
        self.slots.limit_to(max_slots);
    }

    /// Makes every free slot, new slots and the main future's as old as `generation`.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn age_to(&mut self, generation: u32) {
        self.slots.age_to(generation);
        self.n_mains_left = 0;
        for index in 0..self.slots.end() {
            let slot = &mut self.slots[index];
            if !slot.flags.has(Flags::TAKEN) {
                let kind = slot.id.generation() & numbers::MAIN;
                slot.id = Token::new(self.owner, kind | generation, index);
            }
        }
    }

    /// Returns the number of tasks that have not ended or whose output was not taken.
    pub(crate) fn n_tasks(&self) -> usize {
        self.slots.n_taken() - self.n_apart
    }

    pub(crate) fn n_ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns a generation that no task of this loop has had, and that is not before `other`;
    /// [`LAST_GENERATION`] or a later one if there is none.
    pub(crate) fn unused_generation(&self, other: u32) -> u32 {
        self.slots.unused_generation(|slot| slot.id.generation() & LAST_GENERATION).max(other)
    }

    /// Reports whether this loop has assigned `id`, and not an earlier loop with the same number.
    pub(crate) fn has_given(&self, id: Token) -> bool {
        id.owner() == self.owner && id.generation() & LAST_GENERATION >= self.base_generation
    }

    /// Puts a task with a join handle into a slot from [`claim_slot`](Tasks::claim_slot), and
    /// queues it.
    #[inline]
    pub(crate) fn insert<F>(
        &mut self,
        index: u32,
        future: F,
        parent: Token,
        spawned_at: &'static Location<'static>,
    ) -> Token
    where
        F: Future + 'static,
    {
        let slot = &mut self.slots[index];
        let mut future = Some(future);
        let spare = slot.task.take().and_then(|mut spare| {
            self.spare_bytes -= size_of_val(&*spare);
            spare.as_mut().refill(&mut future as &mut dyn Any).then_some(spare)
        });
        let new = |future: Option<F>| new_task(future.expect("a refused future stays"));
        slot.put(spare.unwrap_or_else(|| new(future)));
        slot.spawned_at = spawned_at;
        slot.parent = parent;
        slot.n_polls = 0;
        slot.notes = Notes::NONE;
        // The new task takes over an entry that the last one has left in the queue.
        if !slot.flags.has(Flags::SCHEDULED) {
            self.ready.push(index);
        }
        slot.flags = Flags::SCHEDULED.and(Flags::JOINED).and(Flags::TAKEN);
        slot.id
    }

    /// Queues the task that `id` names, unless it is queued or finished. Returns `false` if there is no such task here.
    #[inline]
    pub(crate) fn wake(&mut self, id: Token) -> bool {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id) else {
            return false;
        };
        if !slot.flags.has(Flags::SCHEDULED.and(Flags::FINISHED)) {
            slot.flags.set(Flags::SCHEDULED);
            self.ready.push(id.slot());
        }
        true
    }

    /// Takes the first entry of the ready queue.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Next> {
        let index = self.ready.pop()?;
        // The slot may have been released if a stale entry was left behind.
        let Some(slot) = self.slots.get_mut(index) else { return Some(Next::Stale) };
        // Before the poll, so that a wake during it queues the task again.
        slot.flags.clear(Flags::SCHEDULED);
        if index == self.main {
            slot.n_polls = slot.n_polls.wrapping_add(1);
            return Some(Next::Main(slot.id));
        }
        if !slot.flags.has(Flags::TAKEN) || slot.flags.has(Flags::FINISHED) {
            return Some(Next::Stale);
        }
        let Some(task) = slot.task.take() else { return Some(Next::Stale) };
        slot.flags.set(Flags::RUNNING);
        slot.n_polls = slot.n_polls.wrapping_add(1);
        Some(Next::Task(slot.id, task))
    }

    /// Puts a pending task back after a poll, unless it was aborted meanwhile.
    #[inline]
    pub(crate) fn put_back(&mut self, id: Token, task: TaskBox, notes: Notes) -> Option<Deferred> {
        let slot = &mut self.slots[id.slot()];
        slot.note(notes);
        if slot.flags.has(Flags::ABORTED) {
            return Some(Deferred::Aborted(task));
        }
        slot.flags.clear(Flags::RUNNING);
        slot.put(task);
        None
    }

    /// Puts a finished task back, if a handle will take its outcome.
    ///
    /// A joiner that is one of this loop's tasks is queued at once.
    #[inline]
    pub(crate) fn finish(&mut self, id: Token, task: TaskBox) -> Option<Deferred> {
        let slot = &mut self.slots[id.slot()];
        if slot.flags.has(Flags::EXTRAS)
            && let Some(extras) = self.extras.get(&id.slot())
        {
            if !extras.callbacks.is_empty() {
                return Some(Deferred::Watched(task));
            }
            if extras.delivery.is_some() {
                return Some(Deferred::Delivered(task));
            }
        }
        if !slot.flags.has(Flags::JOINED) {
            return Some(Deferred::Unwanted(task));
        }
        slot.flags.clear(Flags::RUNNING);
        slot.flags.set(Flags::FINISHED);
        slot.put(task);
        let joiner = slot.joiner.take()?;
        match into_id(joiner, self.owner) {
            Ok(joiner) => {
                self.wake(joiner);
                None
            }
            Err(joiner) => Some(Deferred::Joiner(joiner)),
        }
    }

    /// Empties the slot of a finished task, and keeps its emptied box if there is capacity.
    ///
    /// Returns the joiner, if one is left, to be dropped outside the borrow.
    #[inline]
    pub(crate) fn free(&mut self, id: Token, task: TaskBox) -> Option<Waker> {
        let slot = &mut self.slots[id.slot()];
        debug_assert_eq!(slot.id, id);
        if slot.flags.has(Flags::EXTRAS) {
            // A name: callbacks have been called when the task finished, and a delivery made.
            self.extras.remove(&id.slot());
        }
        let joiner = slot.joiner.take();
        if slot.vacate(task, &mut self.spare_bytes) {
            self.slots.free(id.slot());
        } else {
            self.retire(id.slot());
        }
        joiner
    }

    /// Retires a slot that is spent.
    #[cold]
    pub(super) fn retire(&mut self, index: u32) {
        self.n_apart += 1;
        // It will not be refilled. It is empty, so nothing foreign is dropped.
        if let Some(spare) = self.slots[index].task.take() {
            self.spare_bytes -= size_of_val(&*spare);
        }
    }

    /// Releases a little of the memory that was not needed recently. Returns whether there may be more to release, now or
    /// later.
    ///
    /// The loop calls it whenever it polls for events; `n_steps` is the weight of the call. It drops emptied boxes, which
    /// runs no foreign code.
    #[inline]
    pub(crate) fn tidy(&mut self, n_steps: u32) -> bool {
        let spare_bytes = &mut self.spare_bytes;
        let has_more = self.slots.tidy(n_steps, |slot| {
            *spare_bytes -= slot.task.as_ref().map_or(0, |spare| size_of_val(&**spare));
        });
        self.n_steps += n_steps;
        if self.n_steps >= STEPS_PER_TRIM {
            self.n_steps = 0;
            if self.ready.is_roomy() {
                self.ready.trim();
            }
        }
        has_more
    }

    /// Takes a task out of its slot to be cancelled, or records that it has to be cancelled after its poll.
    pub(crate) fn abort(&mut self, id: Token) -> Option<TaskBox> {
        let slot = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id)?;
        if slot.flags.has(Flags::FINISHED) {
            return None;
        }
        slot.flags.set(Flags::ABORTED);
        let task = slot.task.take();
        if task.is_some() {
            slot.flags.set(Flags::RUNNING);
        }
        task
    }

    /// Stores the notes that a task's futures have left in a poll.
    pub(crate) fn note(&mut self, id: Token, note: Notes) {
        self.slots[id.slot()].note(note);
    }

    fn slot(&self, id: Token) -> Option<&Slot> {
        self.slots.get(id.slot()).filter(|slot| slot.id == id)
    }

    /// Finds or makes a free slot. Returns `None` if there is the maximum number.
    #[inline]
    pub(crate) fn claim_slot(&mut self) -> Option<u32> {
        let owner = self.owner;
        self.slots.claim(|index, generation| Slot::new(Token::new(owner, generation, index)))
    }

    /// Reports whether [`claim_slot`](Tasks::claim_slot) would find one.
    pub(crate) fn has_room(&mut self) -> bool {
        let owner = self.owner;
        self.slots.has_room(|index, generation| Slot::new(Token::new(owner, generation, index)))
    }
}
