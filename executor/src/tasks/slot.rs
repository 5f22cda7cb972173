//! A slot for one task, as a state machine.
//!
//! ```text
//!              1                 2                    4                    6
//!  [ Free ] ──────▶ [ Waiting ] ────▶ [ Running ] ────────▶ [ Finished ] ──────▶ [ Free ]
//!      ▲               │    ▲         │  │  ▲  ▲                 │
//!      │             5 │    └────────-┘  │  │  │        8        │
//!      │               │         3       │  │  └─────────────────┘
//!      │               └─────────────────┼──┘
//!      └─────────────────────────────────┘
//!                       7
//! ```
//!
//! | state | TAKEN | RUNNING | FINISHED | the box |
//! |---|---|---|---|---|
//! | Free | | | | may hold an emptied box to be used again |
//! | Waiting | ✓ | | | in the slot, holds the future |
//! | Running | ✓ | ✓ | | out of the slot |
//! | Finished | ✓ | | ✓ | in the slot, holds the outcome |
//!
//! 1. `insert` puts a new task into the slot and queues it: TAKEN, JOINED, SCHEDULED.
//! 2. `next` takes the box out to be polled: RUNNING set, SCHEDULED cleared.
//! 3. `put_back` after a poll that returned pending. If the task was aborted meanwhile, the box stays out
//!    to be cancelled.
//! 4. `finish`: the outcome is there, and a handle will take it. The joiner is woken.
//! 5. `abort` takes the box out to be cancelled; of a task that is Running it only sets ABORTED.
//! 6. `take_output`: the handle has the outcome. The slot has another generation from now on.
//! 7. `free`: the outcome was dropped because no handle will take it, or it was delivered to a handle that
//!    was polled elsewhere.
//! 8. `detach`, `watch` and `deliver` take the box out again: to be cleared, shown to callbacks, or
//!    delivered. 4 or 7 follows.
//!
//! Beside that, SCHEDULED says whether the slot is in the ready queue, in any state. A slot that has had
//! its last generation is Free for good. The main future has a slot that is in none of these states: it is
//! never taken, and has no box.

use std::mem;
use std::panic::Location;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::inspect::notes::Notes;
use crate::tasks::numbers::{NO_TASK, is_spent, next_generation};
use crate::tasks::stage::TaskBox;
use crate::tasks::table;

/// The bytes of emptied boxes that are kept for the next spawns.
///
/// 1 MiB is some ten thousand small tasks, so that a loop whose work comes in waves allocates in
/// the first of them only; spawning 10,000 and joining them takes a third less time that way.
pub(super) const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// The largest box that is kept.
const SPARE_BOX_MAX: usize = 1024;

/// A slot for one task.
///
/// Aligned, because a slot that lies across two cache lines costs two misses.
#[repr(align(64))]
pub(super) struct Slot {
    /// The task's full number, so that a wake is one comparison; of the next task if the slot is free.
    pub(super) id: Token,
    /// None while the task is polled. In a free slot: an emptied box to be used again.
    pub(super) task: Option<TaskBox>,
    /// Wakes the task that waits for the output.
    pub(super) joiner: Option<Waker>,
    pub(super) spawned_at: &'static Location<'static>,
    pub(super) parent: Token,
    pub(super) n_polls: u32,
    pub(super) flags: Flags,
    pub(super) notes: Notes,
    /// The poll that left the notes: the low bits of its number. After another poll they are old.
    pub(super) noted_in: u16,
}

/// The state of a slot: see the drawing above.
#[derive(Clone, Copy)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const NONE: Flags = Flags(0);

    /// The slot is in the ready queue.
    ///
    /// Set by `insert` and `wake`, cleared by `next` when the entry is taken out, before the poll, so that
    /// a wake during the poll queues the task again. It survives the end of the task: the next one in the
    /// slot takes over an entry that is still queued. Not set while the task is FINISHED, but an entry may be
    /// left from before: `next` finds it stale.
    pub(super) const SCHEDULED: Flags = Flags(1);

    /// The task's box is out of the slot: it is polled, dropped or shown to callbacks.
    ///
    /// Set by `next`, and by `abort`, `detach`, `watch` and `deliver` where they take the box; cleared by
    /// `put_back`, `finish` and the end of the task. Excludes FINISHED, and a box in the slot.
    pub(super) const RUNNING: Flags = Flags(2);

    /// The box is in the slot and holds the outcome.
    ///
    /// Set by `finish`; cleared when the outcome is taken, dropped or shown. Excludes RUNNING. Implies
    /// JOINED, since the outcome of a task without a handle is dropped instead.
    pub(super) const FINISHED: Flags = Flags(4);

    /// A join handle exists and will take the output.
    ///
    /// Set by `insert`, cleared by `detach`, which the handle calls when it is dropped.
    pub(super) const JOINED: Flags = Flags(8);

    /// The task is to be dropped as soon as its box is not out any more.
    ///
    /// Set by `abort`. It is acted upon by `put_back`; a poll that has finished the task wins against it.
    /// Never set while the task is FINISHED.
    pub(super) const ABORTED: Flags = Flags(16);

    /// A task has the slot.
    ///
    /// Set by `insert`, cleared when the slot becomes free. All other flags but SCHEDULED imply it. The
    /// main future's slot is neither taken nor free.
    pub(super) const TAKEN: Flags = Flags(32);

    /// There are `Extras` for the task.
    ///
    /// Set when the first of them is, cleared with the slot. The map of extras has an entry if and only if
    /// the flag is set.
    pub(super) const EXTRAS: Flags = Flags(64);

    #[inline]
    pub(super) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Reports whether one of the other flags is set.
    #[inline]
    pub(super) fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, other: Flags) {
        self.0 |= other.0;
    }

    #[inline]
    pub(super) fn clear(&mut self, other: Flags) {
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
        // Not while it is queued: the next task takes over the entry.
        (!self.flags.has(Flags::SCHEDULED)).then(|| self.id.generation())
    }
}

impl Slot {
    /// Frees the slot of a task that is over, and keeps its emptied box if there is room. False if the
    /// slot has no generation left.
    #[inline]
    pub(super) fn vacate(&mut self, task: TaskBox, spare_bytes: &mut usize) -> bool {
        self.flags = Flags(self.flags.0 & Flags::SCHEDULED.0);
        self.id = next_generation(self.id);
        let bytes = size_of_val(&*task);
        if bytes <= SPARE_BOX_MAX && *spare_bytes + bytes <= SPARE_BYTES_MAX {
            *spare_bytes += bytes;
            self.put(task);
        }
        !is_spent(self.id)
    }

    pub(super) fn new(id: Token) -> Slot {
        Slot {
            id,
            task: None,
            joiner: None,
            spawned_at: Location::caller(),
            parent: NO_TASK,
            n_polls: 0,
            flags: Flags::NONE,
            notes: Notes::NONE,
            noted_in: 0,
        }
    }

    /// Stores the notes of the last poll.
    #[inline]
    pub(super) fn note(&mut self, notes: Notes) {
        if notes != Notes::NONE {
            self.notes = self.notes.kept() | notes;
            self.noted_in = self.n_polls as u16;
        }
    }

    /// Returns the notes of the last poll.
    pub(super) fn fresh_notes(&self) -> Notes {
        if self.noted_in == self.n_polls as u16 { self.notes } else { self.notes.kept() }
    }

    /// Puts a box into the slot, which has none.
    #[inline]
    pub(super) fn put(&mut self, task: TaskBox) {
        debug_assert!(self.task.is_none());
        // Forgotten, because the compiler cannot know that there is nothing to drop.
        mem::forget(self.task.replace(task));
    }
}
