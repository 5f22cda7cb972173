//! All tasks of a loop: a slab of slots, and the queue of those that are ready.
//!
//! Nothing in this file runs foreign code: no future is polled or dropped here, no foreign waker
//! woken, cloned or dropped. That is what lets the loop keep it in a `RefCell` and never meet a
//! borrow twice.

pub(crate) mod table;

pub(crate) mod stage;

pub(crate) mod numbers;

pub(crate) mod wakers;

#[cfg(all(test, not(loom)))]
mod limit_tests;

use std::any::Any;
use std::collections::BTreeMap;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::task::Waker;
use std::time::Duration;

use polyloop_reactor::Token;

use crate::event_loop::shuffle::Shuffle;
use crate::inspect::notes::Notes;
use crate::task::id::TaskId;
use crate::task::info::{TaskInfo, TaskState};
use crate::tasks::numbers::{
    LAST_GENERATION, MAIN, MAX_SLOTS, NOBODY, is_main, is_spent, next_generation,
};
use crate::tasks::stage::{AnyTask, TaskBox, new_task};
use crate::tasks::table::Table;
use crate::tasks::wakers::into_id;

/// The bytes of emptied boxes that are kept for the next spawns.
///
/// 1 MiB is some ten thousand small tasks, so that a loop whose work comes in waves allocates in
/// the first of them only; spawning 10,000 and joining them takes a third less time that way.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// The largest box that is kept.
const SPARE_BOX_MAX: usize = 1024;

/// How often the ready queue is looked at for room that it does not need, in steps of
/// [`Tasks::tidy`].
const STEPS_PER_TRIM: u32 = 64;

/// A ready queue of up to this length keeps its room.
const TRIM_MIN: usize = 1_024;

/// Holds the tasks of one loop.
pub(crate) struct Tasks {
    slots: Table<Slot>,
    ready: ReadyQueue,
    /// The slot of the future that `block_on` polls itself. It never holds a box.
    main: u32,
    /// How many numbers that slot has left; none if there is something else to do before.
    n_mains_left: u32,
    /// The slots that are neither free nor hold a task: the main future's, and those that are
    /// spent.
    n_apart: usize,
    owner: u16,
    /// The generation with which the loop began.
    base_generation: u32,
    /// The bytes of all boxes in free slots.
    spare_bytes: usize,
    /// The steps of [`tidy`](Tasks::tidy) since the ready queue was looked at.
    n_steps: u32,
    /// By slot: what only some tasks have. It has an entry if and only if the slot's flag says so.
    /// A tree, which grows and shrinks in small steps.
    extras: BTreeMap<u32, Extras>,
}

/// What only some tasks have.
#[derive(Default)]
struct Extras {
    name: Option<Box<str>>,
    callbacks: Vec<Callback>,
    /// Takes the output to a handle that was polled elsewhere.
    delivery: Option<Delivery>,
    /// It waits for things that do not keep the loop from being called stuck.
    is_daemon: bool,
    /// The time that its polls have taken, in debug mode.
    busy: Option<Duration>,
}

/// Is called with a reference to the task's `Result<T, JoinError>` when that is there.
pub(crate) type Callback = Box<dyn FnOnce(&dyn Any)>;

/// Takes the output out of the box of a task that is over, and sends it to where its handle is.
pub(crate) type Delivery = Box<dyn FnOnce(Pin<&mut dyn AnyTask>)>;

/// One task, or the room for one.
///
/// Aligned, because a slot that lies across two cache lines costs two misses.
#[repr(align(64))]
struct Slot {
    /// The tenant's full number, so that a wake is one comparison; of the next tenant if free.
    id: Token,
    /// None while the task is polled. In a free slot: an emptied box to be used again.
    task: Option<TaskBox>,
    /// Who waits for the output.
    joiner: Option<Waker>,
    spawned_at: &'static Location<'static>,
    parent: Token,
    n_polls: u32,
    flags: Flags,
    notes: Notes,
    /// The poll that left the notes: the low bits of its number. After another poll they are old.
    noted_in: u16,
}

/// The state of a slot. Any combination is legal but for those that the comments exclude.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    /// The slot is in the ready queue. Survives the tenant: whoever moves in while the stale
    /// entry is still queued takes it over.
    const SCHEDULED: Flags = Flags(1);
    /// The tenant's box is out, being polled or dropped.
    const RUNNING: Flags = Flags(2);
    /// The box holds the output. Never with RUNNING.
    const FINISHED: Flags = Flags(4);
    /// A join handle exists and will take the output.
    const JOINED: Flags = Flags(8);
    /// The task is to be dropped as soon as it is no longer running.
    const ABORTED: Flags = Flags(16);
    /// A task lives here.
    const TAKEN: Flags = Flags(32);
    /// There are [`Extras`] for it.
    const EXTRAS: Flags = Flags(64);

    fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    fn clear(&mut self, other: Flags) {
        self.0 &= !other.0;
    }
}

impl table::Slot for Slot {
    fn link(&self) -> u32 {
        self.n_polls
    }

    fn set_link(&mut self, link: u32) {
        self.n_polls = link;
    }

    fn generation(&self) -> Option<u32> {
        // Not while it is queued: whoever moves in takes over the entry.
        (!self.flags.has(Flags::SCHEDULED)).then(|| self.id.generation())
    }
}

impl Slot {
    /// Ends the tenancy of a task that is over, and keeps its emptied box if there is room. False
    /// if it was the slot's last.
    #[inline]
    fn vacate(&mut self, task: TaskBox, spare_bytes: &mut usize) -> bool {
        self.flags = Flags(self.flags.0 & Flags::SCHEDULED.0);
        self.id = next_generation(self.id);
        let bytes = size_of_val(&*task);
        if bytes <= SPARE_BOX_MAX && *spare_bytes + bytes <= SPARE_BYTES_MAX {
            *spare_bytes += bytes;
            self.put(task);
        }
        !is_spent(self.id)
    }

    fn new(id: Token) -> Slot {
        Slot {
            id,
            task: None,
            joiner: None,
            spawned_at: Location::caller(),
            parent: NOBODY,
            n_polls: 0,
            flags: Flags(0),
            notes: Notes::NONE,
            noted_in: 0,
        }
    }

    /// Keeps what the last poll has left.
    #[inline]
    fn note(&mut self, notes: Notes) {
        if notes != Notes::NONE {
            self.notes = self.notes.kept() | notes;
            self.noted_in = self.n_polls as u16;
        }
    }

    /// Returns the notes of the last poll.
    fn fresh_notes(&self) -> Notes {
        if self.noted_in == self.n_polls as u16 { self.notes } else { self.notes.kept() }
    }

    /// Puts a box into the slot, which has none.
    #[inline]
    fn put(&mut self, task: TaskBox) {
        debug_assert!(self.task.is_none());
        // Forgotten, because the compiler cannot know that there is nothing to drop.
        mem::forget(self.task.replace(task));
    }
}

/// The slots whose tasks are to be polled, first in first out.
///
/// Two lists rather than a ring: one is read from front to back while the other is filled, and
/// when the first is at its end they change places.
#[derive(Default)]
struct ReadyQueue {
    batch: Vec<u32>,
    /// How much of the batch has been read.
    n_read: usize,
    next: Vec<u32>,
    /// Mixes each batch, if a test asks for it.
    shuffle: Option<Shuffle>,
}

impl ReadyQueue {
    /// Reports whether one of the lists is so long that it may have to be shortened.
    #[inline]
    fn is_roomy(&self) -> bool {
        self.batch.capacity().max(self.next.capacity()) >= 2 * TRIM_MIN
    }

    /// Halves what the lists hold without need.
    #[cold]
    fn trim(&mut self) {
        for list in [&mut self.batch, &mut self.next] {
            let half = list.capacity() / 2;
            if half >= TRIM_MIN && half > 2 * list.len() {
                list.shrink_to(half);
            }
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.batch.len() - self.n_read + self.next.len()
    }

    #[inline]
    fn push(&mut self, index: u32) {
        self.next.push(index);
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        if self.n_read == self.batch.len() {
            self.batch.clear();
            self.n_read = 0;
            mem::swap(&mut self.batch, &mut self.next);
            if let Some(shuffle) = &mut self.shuffle {
                shuffle.mix(&mut self.batch);
            }
        }
        let index = *self.batch.get(self.n_read)?;
        self.n_read += 1;
        Some(index)
    }
}

/// What comes next in the ready queue.
pub(crate) enum Next {
    /// The future of `block_on`.
    Main(Token),
    /// A task, taken out of its slot until [`Tasks::put_back`] or [`Tasks::finish`].
    Task(Token, TaskBox),
    /// An entry without a tenant to poll.
    Stale,
}

/// What is left to do for a task outside the borrow.
pub(crate) enum Deferred {
    /// It was aborted: drop its future, then [`finish`](Tasks::finish) it.
    Aborted(TaskBox),
    /// Show its output to its [`callbacks`](Tasks::take_callbacks), then
    /// [`finish`](Tasks::finish) it.
    Watched(TaskBox),
    /// Make its [`delivery`](Tasks::take_delivery), then [`free`](Tasks::free) the slot.
    Delivered(TaskBox),
    /// Nobody takes its output: drop that, then [`free`](Tasks::free) the slot.
    Unwanted(TaskBox),
    /// Wake whoever waits for the output, on another loop or under another executor.
    Joiner(Waker),
}

/// What a slot has held to the end.
pub(crate) struct Drained {
    pub(crate) id: Token,
    pub(crate) task: Option<TaskBox>,
    pub(crate) joiner: Option<Waker>,
    /// The box holds an output, and there is a handle that will ask for it.
    pub(crate) is_awaited: bool,
}

/// What a join handle finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// The task is not over.
    Running,
    /// Its output is there to be taken.
    Finished,
    /// There is no such task any more.
    Gone,
}

impl Tasks {
    pub(crate) fn new(owner: u16, first_generation: u32, shuffle: Option<Shuffle>) -> Tasks {
        let mut tasks = Tasks {
            slots: Table::new(MAX_SLOTS, first_generation),
            ready: ReadyQueue { shuffle, ..ReadyQueue::default() },
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

    /// Lowers the number of tasks that there may be, with the main future.
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
                let kind = slot.id.generation() & MAIN;
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

    /// Reports whether `id` is a number that this loop has given, and not an earlier one with its
    /// owner's number.
    pub(crate) fn has_given(&self, id: Token) -> bool {
        id.owner() == self.owner && id.generation() & LAST_GENERATION >= self.base_generation
    }

    /// Gives the main future a new number; none if there is something else to do before, which
    /// [`begin_main_slowly`](Tasks::begin_main_slowly) does.
    ///
    /// What the last one has left in its slot is forgotten. It held no callbacks, which need a
    /// handle, so nothing foreign is dropped.
    #[inline]
    pub(crate) fn begin_main(&mut self) -> Option<Token> {
        self.n_mains_left = self.n_mains_left.checked_sub(1)?;
        let slot = &mut self.slots[self.main];
        slot.n_polls = 1;
        slot.notes = Notes::NONE;
        slot.id = next_generation(slot.id);
        Some(slot.id)
    }

    /// Does the same, in another slot if need be; none if there is none.
    #[cold]
    pub(crate) fn begin_main_slowly(&mut self) -> Option<Token> {
        let slot = &mut self.slots[self.main];
        slot.flags.clear(Flags::EXTRAS);
        self.extras.remove(&self.main);
        self.n_mains_left = LAST_GENERATION - 1 - (slot.id.generation() & LAST_GENERATION);
        if self.n_mains_left > 0 {
            return self.begin_main();
        }
        self.move_main()?;
        Some(self.slots[self.main].id)
    }

    /// Finds another slot for the main future. The one that it had has no number left.
    fn move_main(&mut self) -> Option<()> {
        let index = self.claim_slot()?;
        if let Some(old) = self.slots.get_mut(self.main).filter(|slot| is_main(slot.id)) {
            old.id = next_generation(old.id);
        }
        self.main = index;
        self.n_apart += 1;
        let generation = self.slots.first_generation();
        self.n_mains_left = LAST_GENERATION - 1 - generation;
        let slot = &mut self.slots[index];
        slot.id = Token::new(self.owner, MAIN | generation, index);
        slot.n_polls = 1;
        Some(())
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
        // Whoever moves in takes over an entry that the last tenant has left in the queue.
        if !slot.flags.has(Flags::SCHEDULED) {
            self.ready.push(index);
        }
        slot.flags = Flags(Flags::SCHEDULED.0 | Flags::JOINED.0 | Flags::TAKEN.0);
        slot.id
    }

    /// Queues the task that `id` names, unless it is queued or over. False if there is no such
    /// task here.
    #[inline]
    pub(crate) fn wake(&mut self, id: Token) -> bool {
        let Some(slot) = self.slots.get_mut(id.slot()).filter(|slot| slot.id == id) else {
            return false;
        };
        if !slot.flags.has(Flags(Flags::SCHEDULED.0 | Flags::FINISHED.0)) {
            slot.flags.set(Flags::SCHEDULED);
            self.ready.push(id.slot());
        }
        true
    }

    /// Takes the first of the ready queue.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Next> {
        let index = self.ready.pop()?;
        // It has been given back if a stale entry was left behind.
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

    /// Puts a task back that was polled and is not done, unless it was aborted meanwhile.
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

    /// Puts a task back that has its outcome, if somebody will take it.
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

    /// Empties the slot of a task that is over, and keeps its emptied box if there is room.
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

    /// Puts a slot that is spent out of use.
    #[cold]
    fn retire(&mut self, index: u32) {
        self.n_apart += 1;
        // It will not be refilled. It is empty, so nothing foreign is dropped.
        if let Some(spare) = self.slots[index].task.take() {
            self.spare_bytes -= size_of_val(&*spare);
        }
    }

    /// Gives back a little of the memory that was not needed lately. Returns whether there may be
    /// more to give back, now or later.
    ///
    /// The loop calls it whenever it looks at the world, and says with `n_steps` how much that
    /// counts. What is dropped are emptied boxes, which run no foreign code.
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

    /// Says what has become of a task.
    #[inline]
    pub(crate) fn look_up(&self, id: Token) -> Join {
        match self.slots.get(id.slot()) {
            Some(slot) if slot.id == id && slot.flags.has(Flags::FINISHED) => Join::Finished,
            Some(slot) if slot.id == id => Join::Running,
            _ => Join::Gone,
        }
    }

    /// Leaves `waker` to be woken by the end of a task, if that is still to come.
    ///
    /// What is in `waker` afterwards is to be dropped outside the borrow.
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

    /// Notes that nobody will take the output of `id`; none if there is no such task.
    ///
    /// Returns the box if the task is over, to be cleared and given to [`free`](Tasks::free), and
    /// the waker that was left.
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

    /// Takes a task out of its slot to be cancelled, or notes that this is to be done when its
    /// poll is over.
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

    /// Names a task that has not ended, if there is one, looking from slot `from` on.
    pub(crate) fn find_unfinished(&self, from: u32) -> Option<Token> {
        let unfinished = self.slots.find(from, |slot| {
            slot.flags.has(Flags::TAKEN)
                && !slot.flags.has(Flags(Flags::FINISHED.0 | Flags::RUNNING.0))
        });
        unfinished.map(|slot| slot.id)
    }

    /// Returns a number past those of all slots.
    pub(crate) fn end(&self) -> u32 {
        self.slots.end()
    }

    /// Takes what the slot at `index` still holds, to be dropped outside the borrow; none if there
    /// is no such slot.
    pub(crate) fn drain_slot(&mut self, index: u32) -> Option<Drained> {
        let slot = self.slots.get_mut(index)?;
        let is_awaited = slot.flags.has(Flags::FINISHED);
        let (task, joiner) = (slot.task.take(), slot.joiner.take());
        Some(Drained { id: slot.id, task, joiner, is_awaited })
    }

    /// Keeps what a task's futures have left in a poll.
    pub(crate) fn note(&mut self, id: Token, note: Notes) {
        self.slots[id.slot()].note(note);
    }

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

    fn slot(&self, id: Token) -> Option<&Slot> {
        self.slots.get(id.slot()).filter(|slot| slot.id == id)
    }

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

    /// Lists who waits for the end of which task.
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
            parent: (!is_main && slot.parent != NOBODY).then(|| TaskId::new(slot.parent)),
            spawned_at: main_at.filter(|_| is_main).unwrap_or(slot.spawned_at),
            state,
            n_polls: slot.n_polls,
            busy: extras.flatten().and_then(|extras| extras.busy),
            waits_for: Vec::new(),
        }
    }

    /// Finds a free slot or makes one; none if there are as many as there may be.
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::ready;

    use super::*;
    use crate::JoinError;

    fn tasks() -> Tasks {
        Tasks::new(3, 5, None)
    }

    fn begin_main(tasks: &mut Tasks) -> Option<Token> {
        match tasks.begin_main() {
            None => tasks.begin_main_slowly(),
            id => id,
        }
    }

    /// Begins so late that a slot has two tenants: generation `LAST_GENERATION` has none.
    fn old_tasks() -> Tasks {
        Tasks::new(3, LAST_GENERATION - 2, None)
    }

    fn insert(tasks: &mut Tasks) -> Token {
        let index = tasks.claim_slot().expect("there is room");
        tasks.insert(index, ready(()), NOBODY, Location::caller())
    }

    fn expect_task(tasks: &mut Tasks) -> (Token, TaskBox) {
        match tasks.next() {
            Some(Next::Task(id, task)) => (id, task),
            Some(Next::Main(_)) => panic!("expected a task, found the main future"),
            Some(Next::Stale) => panic!("expected a task, found a stale entry"),
            None => panic!("expected a task, found none"),
        }
    }

    fn free_unwanted(tasks: &mut Tasks, id: Token, task: TaskBox) {
        let Some(Deferred::Unwanted(mut task)) = tasks.finish(id, task) else {
            panic!("somebody takes the output");
        };
        task.as_mut().clear();
        tasks.free(id, task);
    }

    /// Ends the task that is next, with nobody to take its output.
    fn run_detached(tasks: &mut Tasks) -> Token {
        let (id, mut task) = expect_task(tasks);
        tasks.detach(id);
        task.as_mut().clear();
        free_unwanted(tasks, id, task);
        id
    }

    fn run_detached_twice(tasks: &mut Tasks) {
        for _ in 0..2 {
            insert(tasks);
            run_detached(tasks);
        }
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_slot_fills_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }

    #[test]
    fn ready_tasks_come_first_in_first_out() {
        let mut tasks = tasks();
        let ids = [insert(&mut tasks), insert(&mut tasks), insert(&mut tasks)];
        for id in ids {
            assert_eq!(expect_task(&mut tasks).0, id);
        }
        assert!(tasks.next().is_none());
    }

    #[test]
    fn many_wakes_queue_a_task_once() {
        let mut tasks = tasks();
        let id = insert(&mut tasks);
        let (_, task) = expect_task(&mut tasks);
        assert!(tasks.put_back(id, task, Notes::NONE).is_none());
        for _ in 0..10 {
            tasks.wake(id);
        }
        assert_eq!(tasks.n_ready(), 1);
    }

    #[test]
    fn a_wake_during_the_poll_queues_the_task_again() {
        let mut tasks = tasks();
        let id = insert(&mut tasks);
        let (_, task) = expect_task(&mut tasks);
        tasks.wake(id);
        assert!(tasks.put_back(id, task, Notes::NONE).is_none());
        assert_eq!(expect_task(&mut tasks).0, id);
    }

    #[test]
    fn a_stale_wake_does_not_reach_the_slots_next_generation() {
        let mut tasks = tasks();
        insert(&mut tasks);
        let old = run_detached(&mut tasks);
        let new = insert(&mut tasks);
        assert_eq!(old.slot(), new.slot());
        let (_, task) = expect_task(&mut tasks);
        assert!(tasks.put_back(new, task, Notes::NONE).is_none());
        tasks.wake(old);
        assert_eq!(tasks.n_ready(), 0);
    }

    #[test]
    fn a_slot_that_has_had_its_last_tenant_is_never_used_again() {
        let mut tasks = old_tasks();
        let mut seen = HashSet::new();
        for round in 0..10 {
            insert(&mut tasks);
            let id = run_detached(&mut tasks);
            assert!(seen.insert(id), "{id:?} came twice");
            assert_eq!(id.slot(), 1 + round / 2, "each slot has two tenants");
            assert!(id.generation() < LAST_GENERATION);
        }
        assert_eq!((tasks.n_tasks(), tasks.spare_bytes), (0, 0));
        for id in seen {
            assert_eq!(tasks.look_up(id), Join::Gone);
            assert!(!tasks.wake(id));
            assert!(tasks.abort(id).is_none());
        }
    }

    #[test]
    fn slots_that_are_spent_count_against_the_limit_and_only_they() {
        let mut tasks = old_tasks();
        tasks.limit_to(3);
        for _ in 0..4 {
            insert(&mut tasks);
            run_detached(&mut tasks);
        }
        assert_eq!(tasks.claim_slot(), None);
        assert_eq!(tasks.n_tasks(), 0);
    }

    #[test]
    fn the_main_future_moves_to_another_slot_when_its_own_is_spent() {
        let mut tasks = old_tasks();
        insert(&mut tasks);
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let id = begin_main(&mut tasks).unwrap();
            assert!(is_main(id) && seen.insert(id), "{id:?} came twice");
            assert!(tasks.wake(id));
            // Not always all of them, so that stale entries of its old slots are met as well.
            for _ in 0..seen.len() % 3 {
                match tasks.next() {
                    Some(Next::Main(main)) => assert_eq!(main, id),
                    Some(Next::Task(task, mut taken)) => {
                        assert!(!is_main(task));
                        tasks.detach(task);
                        taken.as_mut().clear();
                        free_unwanted(&mut tasks, task, taken);
                        insert(&mut tasks);
                    }
                    Some(Next::Stale) | None => {}
                }
            }
        }
        assert!(tasks.main > 1, "it has moved");
        let last = tasks.slots[tasks.main].id;
        for old in seen.into_iter().filter(|id| *id != last) {
            assert!(!tasks.wake(old), "{old:?} is nobody's any more");
        }
    }

    #[test]
    fn a_loop_with_no_number_left_for_its_main_future_says_so() {
        let mut tasks = old_tasks();
        tasks.limit_to(1);
        assert!(begin_main(&mut tasks).is_some());
        assert_eq!(begin_main(&mut tasks), None);
    }

    #[test]
    fn the_next_loop_begins_after_all_generations_of_this_one() {
        let mut tasks = tasks();
        assert_eq!(tasks.unused_generation(0), 6);
        insert(&mut tasks);
        run_detached(&mut tasks);
        assert_eq!(tasks.unused_generation(0), 7);
        assert_eq!(tasks.unused_generation(9), 9);
        for _ in 0..5 {
            begin_main(&mut tasks);
        }
        assert_eq!(tasks.unused_generation(9), 11);
        let mut tasks = old_tasks();
        insert(&mut tasks);
        run_detached(&mut tasks);
        run_detached_twice(&mut tasks);
        assert!(tasks.unused_generation(0) >= LAST_GENERATION, "there is no next loop");
    }

    #[test]
    fn the_next_main_future_inherits_nothing() {
        let mut tasks = tasks();
        let first = begin_main(&mut tasks).unwrap();
        tasks.note(first, Notes::FOREIGN);
        tasks.set_name(first, "first".into());
        tasks.set_daemon(first);
        let second = begin_main(&mut tasks).unwrap();
        assert_eq!((tasks.name(second), tasks.is_daemon(second)), (None, false));
        assert_eq!(tasks.notes(true).next(), Some(Notes::NONE));
        assert_eq!(tasks.describe(second, None).unwrap().n_polls, 1);
        tasks.set_name(first, "late".into());
        assert_eq!(tasks.name(second), None);
    }

    #[test]
    fn the_next_generation_takes_over_a_stale_entry() {
        let mut tasks = tasks();
        let id = insert(&mut tasks);
        let (_, task) = expect_task(&mut tasks);
        tasks.wake(id);
        tasks.detach(id);
        free_unwanted(&mut tasks, id, task);
        let next = insert(&mut tasks);
        assert_eq!(tasks.n_ready(), 1);
        assert_eq!(expect_task(&mut tasks).0, next);
        assert!(tasks.next().is_none());
    }

    #[test]
    fn a_stale_entry_without_a_tenant_is_skipped() {
        let mut tasks = tasks();
        let id = insert(&mut tasks);
        let (_, task) = expect_task(&mut tasks);
        tasks.wake(id);
        tasks.detach(id);
        free_unwanted(&mut tasks, id, task);
        assert!(matches!(tasks.next(), Some(Next::Stale)));
        assert!(tasks.next().is_none());
    }

    #[test]
    fn spare_boxes_are_bounded() {
        let mut tasks = tasks();
        for _ in 0..100_000 {
            insert(&mut tasks);
        }
        for _ in 0..100_000 {
            run_detached(&mut tasks);
        }
        assert!(tasks.spare_bytes <= SPARE_BYTES_MAX);
        let held: usize = tasks.slots.iter().filter_map(|slot| slot.task.as_ref()).count();
        assert!(held > 0 && held < 100_000, "{held} boxes held");
    }

    #[test]
    fn a_joined_output_is_moved_out_once() {
        let mut tasks = tasks();
        let id = insert(&mut tasks);
        let (_, mut task) = expect_task(&mut tasks);
        let mut cx = std::task::Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut cx).is_ready());
        assert!(tasks.finish(id, task).is_none());
        let mut output: Option<Result<(), JoinError>> = None;
        assert_eq!(tasks.look_up(id), Join::Finished);
        tasks.take_output(id, &mut output);
        assert!(output.unwrap().is_ok());
        assert_eq!(tasks.look_up(id), Join::Gone);
    }
}
