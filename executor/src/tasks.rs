//! All tasks of a loop: a slab of slots, and the queue of those that are ready.
//!
//! Nothing in this file runs foreign code: no future is polled or dropped here, no foreign waker
//! woken, cloned or dropped. That is what lets the loop keep it in a `RefCell` and never meet a
//! borrow twice.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::panic::Location;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::shrink::Shrink;
use crate::task::{TaskBox, new_task};
use crate::waker::id_of;

/// The slot of the future that `block_on` polls itself. It never holds a box.
pub(crate) const MAIN_SLOT: u32 = 0;

/// The bytes of emptied boxes that are kept for the next spawns.
///
/// 64 KiB are some five hundred small tasks: enough for a loop that spawns and joins at a steady
/// rate, and little beside the stack of one thread.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// The largest box that is kept.
const SPARE_BOX_MAX: usize = 1024;

/// Holds the tasks of one loop.
pub(crate) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    owner: u16,
    /// The generation with which the loop began.
    base_generation: u32,
    /// The generation of a new slot: past those of the slots that were cut off.
    first_generation: u32,
    shrink: Shrink,
    /// The bytes of all boxes in free slots.
    spare_bytes: usize,
}

/// One task, or the room for one.
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
pub(crate) enum LeftOver {
    /// It was aborted: drop its future, then [`finish`](Tasks::finish) it.
    Aborted(TaskBox),
    /// Nobody takes its output: drop that, then [`free`](Tasks::free) the slot.
    Unwanted(TaskBox),
    /// Wake whoever waits for the output, on another loop or under another executor.
    Joiner(Waker),
}

/// What a join handle finds.
pub(crate) enum Join {
    /// The output has been moved to where the handle asked for it.
    Done,
    /// The waker was left.
    Waiting,
    /// There is no such task any more.
    Gone,
}

impl Tasks {
    pub(crate) fn new(owner: u16, first_generation: u32) -> Tasks {
        let mut tasks = Tasks {
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            owner,
            base_generation: first_generation,
            first_generation,
            shrink: Shrink::default(),
            spare_bytes: 0,
        };
        let slot = tasks.claim_slot();
        debug_assert_eq!(slot, MAIN_SLOT);
        tasks
    }

    /// Returns the number of tasks that have not ended or whose output was not taken.
    pub(crate) fn n_tasks(&self) -> usize {
        self.slots.len() - self.free.len() - 1
    }

    pub(crate) fn n_ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns a generation that no task of this loop has had, and that is not before `other`.
    ///
    /// Generations wrap, so they are compared by their distance from the loop's first.
    pub(crate) fn unused_generation(&self, other: u32) -> u32 {
        let used = self.slots.iter().map(|slot| self.age(slot.id.generation())).max();
        let unused = used.map_or(0, |used| used + 1);
        let unused = unused.max(self.age(self.first_generation)).max(self.age(other));
        self.base_generation.wrapping_add(unused) & Token::MAX_GENERATION
    }

    /// Returns by how many generations `generation` comes after the loop's first.
    fn age(&self, generation: u32) -> u32 {
        generation.wrapping_sub(self.base_generation) & Token::MAX_GENERATION
    }

    /// Gives the main future a new number.
    pub(crate) fn begin_main(&mut self) -> Token {
        let slot = &mut self.slots[MAIN_SLOT as usize];
        slot.id = slot.id.next_tenant();
        slot.id
    }

    /// Adds a task with a join handle, and queues it.
    ///
    /// # Panics
    /// If 16,777,215 tasks are alive.
    #[inline]
    pub(crate) fn insert<F>(
        &mut self,
        future: F,
        parent: Token,
        spawned_at: &'static Location<'static>,
    ) -> Token
    where
        F: Future + 'static,
    {
        let index = self.claim_slot();
        let slot = &mut self.slots[index as usize];
        let mut future = Some(future);
        let spare = slot.task.take().and_then(|mut spare| {
            self.spare_bytes -= size_of_val(&*spare);
            spare.as_mut().refill(&mut future as &mut dyn Any).then_some(spare)
        });
        let new = |future: Option<F>| new_task(future.expect("a refused future stays"));
        slot.task = Some(spare.unwrap_or_else(|| new(future)));
        slot.spawned_at = spawned_at;
        slot.parent = parent;
        slot.n_polls = 0;
        slot.flags.set(Flags(Flags::JOINED.0 | Flags::TAKEN.0));
        let id = slot.id;
        self.schedule(index);
        id
    }

    /// Queues the task that `id` names, unless it is queued or over.
    #[inline]
    pub(crate) fn wake(&mut self, id: Token) {
        let index = id.slot();
        if let Some(slot) = self.slots.get(index as usize)
            && slot.id == id
        {
            self.schedule(index);
        }
    }

    #[inline]
    fn schedule(&mut self, index: u32) {
        let flags = &mut self.slots[index as usize].flags;
        if !flags.has(Flags(Flags::SCHEDULED.0 | Flags::FINISHED.0)) {
            flags.set(Flags::SCHEDULED);
            self.ready.push_back(index);
        }
    }

    /// Takes the first of the ready queue.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Next> {
        let index = self.ready.pop_front()?;
        let slot = &mut self.slots[index as usize];
        // Before the poll, so that a wake during it queues the task again.
        slot.flags.clear(Flags::SCHEDULED);
        if index == MAIN_SLOT {
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
    pub(crate) fn put_back(&mut self, id: Token, task: TaskBox) -> Option<LeftOver> {
        let slot = &mut self.slots[id.slot() as usize];
        if slot.flags.has(Flags::ABORTED) {
            return Some(LeftOver::Aborted(task));
        }
        slot.flags.clear(Flags::RUNNING);
        slot.task = Some(task);
        None
    }

    /// Puts a task back that has its outcome, if somebody will take it.
    ///
    /// A joiner that is one of this loop's tasks is queued at once.
    #[inline]
    pub(crate) fn finish(&mut self, id: Token, task: TaskBox) -> Option<LeftOver> {
        let slot = &mut self.slots[id.slot() as usize];
        if !slot.flags.has(Flags::JOINED) {
            return Some(LeftOver::Unwanted(task));
        }
        slot.flags.clear(Flags::RUNNING);
        slot.flags.set(Flags::FINISHED);
        slot.task = Some(task);
        let joiner = slot.joiner.take()?;
        match id_of(&joiner) {
            Some(joiner) if joiner.owner() == self.owner => {
                self.wake(joiner);
                None
            }
            _ => Some(LeftOver::Joiner(joiner)),
        }
    }

    /// Empties the slot of a task that is over, and keeps its emptied box if there is room.
    ///
    /// Returns the joiner, if one is left, to be dropped outside the borrow.
    pub(crate) fn free(&mut self, id: Token, task: Option<TaskBox>) -> Option<Waker> {
        let slot = &mut self.slots[id.slot() as usize];
        debug_assert_eq!(slot.id, id);
        let scheduled = slot.flags.has(Flags::SCHEDULED);
        slot.flags = if scheduled { Flags::SCHEDULED } else { Flags(0) };
        slot.id = id.next_tenant();
        slot.task = task.filter(|task| {
            let bytes = size_of_val(&**task);
            let keep = bytes <= SPARE_BOX_MAX && self.spare_bytes + bytes <= SPARE_BYTES_MAX;
            self.spare_bytes += if keep { bytes } else { 0 };
            keep
        });
        let joiner = slot.joiner.take();
        self.free.push(id.slot());
        if self.shrink.is_due(self.slots.len(), self.n_tasks()) {
            self.cut();
        }
        joiner
    }

    /// Gives back the memory of the free slots at the end.
    #[cold]
    fn cut(&mut self) {
        let is_free = |slot: &Slot| slot.flags.0 == 0 && slot.id.slot() != MAIN_SLOT;
        let Some(len) = Shrink::cut(&self.slots, is_free) else { return };
        for slot in &self.slots[len..] {
            if self.age(slot.id.generation()) > self.age(self.first_generation) {
                self.first_generation = slot.id.generation();
            }
            self.spare_bytes -= slot.task.as_ref().map_or(0, |spare| size_of_val(&**spare));
        }
        self.slots.truncate(len);
        self.free.retain(|index| (*index as usize) < len);
        self.slots.shrink_to(2 * len);
        self.free.shrink_to(2 * len);
        self.ready.shrink_to(2 * self.ready.len());
    }

    /// Moves the output of a finished task to `into`, or leaves `waker` to be woken by it.
    ///
    /// What is in `waker` afterwards is to be dropped outside the borrow.
    #[inline]
    pub(crate) fn join(
        &mut self,
        id: Token,
        into: &mut dyn Any,
        waker: &mut Option<Waker>,
    ) -> Join {
        let Some(slot) = self.slots.get_mut(id.slot() as usize).filter(|slot| slot.id == id) else {
            return Join::Gone;
        };
        if !slot.flags.has(Flags::FINISHED) {
            mem::swap(&mut slot.joiner, waker);
            return Join::Waiting;
        }
        let mut task = slot.task.take();
        if let Some(task) = &mut task {
            task.as_mut().take_output(into);
        }
        let joiner = self.free(id, task);
        debug_assert!(joiner.is_none(), "a finished task has woken its joiner");
        Join::Done
    }

    /// Notes that nobody will take the output of `id`.
    ///
    /// Returns the box if the task is over, to be cleared and given to [`free`](Tasks::free), and
    /// the waker that was left.
    pub(crate) fn detach(&mut self, id: Token) -> (Option<TaskBox>, Option<Waker>) {
        let Some(slot) = self.slots.get_mut(id.slot() as usize).filter(|slot| slot.id == id) else {
            return (None, None);
        };
        slot.flags.clear(Flags::JOINED);
        let finished = slot.flags.has(Flags::FINISHED);
        if finished {
            slot.flags.clear(Flags::FINISHED);
            slot.flags.set(Flags::RUNNING);
        }
        (if finished { slot.task.take() } else { None }, slot.joiner.take())
    }

    /// Takes a task out of its slot to be cancelled, or notes that this is to be done when its
    /// poll is over.
    pub(crate) fn abort(&mut self, id: Token) -> Option<TaskBox> {
        let slot = self.slots.get_mut(id.slot() as usize).filter(|slot| slot.id == id)?;
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
        let slots = self.slots.iter().skip(from as usize);
        let mut unfinished = slots.filter(|slot| {
            slot.flags.has(Flags::TAKEN)
                && !slot.flags.has(Flags(Flags::FINISHED.0 | Flags::RUNNING.0))
        });
        unfinished.next().map(|slot| slot.id)
    }

    /// Takes what the slot at `index` still holds, to be dropped outside the borrow; none if there
    /// is no such slot.
    pub(crate) fn strip(&mut self, index: usize) -> Option<(Option<TaskBox>, Option<Waker>)> {
        let slot = self.slots.get_mut(index)?;
        Some((slot.task.take(), slot.joiner.take()))
    }

    /// Finds a free slot or makes one.
    fn claim_slot(&mut self) -> u32 {
        if let Some(index) = self.free.pop() {
            return index;
        }
        let index = self.slots.len();
        assert!(index <= Token::MAX_SLOT as usize, "a loop holds 16,777,215 tasks at most");
        let index = index as u32;
        self.slots.push(Slot {
            id: Token::new(self.owner, self.first_generation, index),
            task: None,
            joiner: None,
            spawned_at: Location::caller(),
            parent: Token::new(self.owner, self.first_generation, MAIN_SLOT),
            n_polls: 0,
            flags: Flags(0),
        });
        index
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::JoinError;

    fn tasks() -> Tasks {
        Tasks::new(3, Token::MAX_GENERATION)
    }

    fn insert(tasks: &mut Tasks) -> Token {
        tasks.insert(ready(()), Token::new(3, 0, MAIN_SLOT), Location::caller())
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
        let Some(LeftOver::Unwanted(mut task)) = tasks.finish(id, task) else {
            panic!("somebody takes the output");
        };
        task.as_mut().clear();
        tasks.free(id, Some(task));
    }

    /// Ends the task that is next, with nobody to take its output.
    fn run_detached(tasks: &mut Tasks) -> Token {
        let (id, mut task) = expect_task(tasks);
        tasks.detach(id);
        task.as_mut().clear();
        free_unwanted(tasks, id, task);
        id
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
        assert!(tasks.put_back(id, task).is_none());
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
        assert!(tasks.put_back(id, task).is_none());
        assert_eq!(expect_task(&mut tasks).0, id);
    }

    #[test]
    fn a_stale_wake_does_not_reach_the_slots_next_tenant() {
        let mut tasks = tasks();
        insert(&mut tasks);
        let old = run_detached(&mut tasks);
        let new = insert(&mut tasks);
        assert_eq!(old.slot(), new.slot());
        let (_, task) = expect_task(&mut tasks);
        assert!(tasks.put_back(new, task).is_none());
        tasks.wake(old);
        assert_eq!(tasks.n_ready(), 0);
    }

    #[test]
    fn generations_wrap_and_the_tenants_stay_apart() {
        let mut tasks = tasks();
        insert(&mut tasks);
        let last = run_detached(&mut tasks);
        assert_eq!(last.generation(), Token::MAX_GENERATION);
        let first = insert(&mut tasks);
        assert_eq!(first, Token::new(3, 0, last.slot()));
    }

    #[test]
    fn the_next_loop_begins_after_a_generation_that_wrapped() {
        let mut tasks = tasks();
        assert_eq!(tasks.unused_generation(Token::MAX_GENERATION), 0);
        insert(&mut tasks);
        run_detached(&mut tasks);
        assert_eq!(tasks.unused_generation(Token::MAX_GENERATION), 1);
        assert_eq!(tasks.unused_generation(5), 5);
    }

    #[test]
    fn the_next_tenant_takes_over_a_stale_entry() {
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
        assert!(held > 0 && held < 10_000, "{held} boxes held");
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
        let join = tasks.join(id, &mut output, &mut Some(Waker::noop().clone()));
        assert!(matches!(join, Join::Done));
        assert!(output.unwrap().is_ok());
        let mut output: Option<Result<(), JoinError>> = None;
        let join = tasks.join(id, &mut output, &mut Some(Waker::noop().clone()));
        assert!(matches!(join, Join::Gone));
    }
}
