//! What a task waits for, if no table of its loop shows it.
//!
//! Waits for descriptors, timers and tasks of the loop are looked up on demand. Other leaf futures set a bit when they are
//! pending, so inspection costs one byte per task and no allocation.

use std::ops::BitOr;

/// The notes that a task's leaf futures left in its last poll: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(u8);

impl Notes {
    pub(crate) const NONE: Notes = Notes(0);
    /// A message in a channel of this thread.
    pub(crate) const LOCAL_MESSAGE: Notes = Notes(1);
    /// Capacity in a channel of this thread.
    pub(crate) const LOCAL_ROOM: Notes = Notes(2);
    /// A message in a channel between threads.
    pub(crate) const MESSAGE: Notes = Notes(4);
    /// Capacity in a channel between threads.
    pub(crate) const ROOM: Notes = Notes(8);
    /// The result of work on a blocking thread or on another loop.
    pub(crate) const ELSEWHERE: Notes = Notes(16);
    /// Tasks of a set.
    pub(crate) const CHILDREN: Notes = Notes(32);
    /// A cancellation token.
    pub(crate) const TOKEN: Notes = Notes(64);
    /// A foreign future has cloned the waker, and may have stored it anywhere.
    pub(crate) const FOREIGN: Notes = Notes(128);

    /// Waits that other threads may end.
    const FROM_OUTSIDE: Notes = Notes(4 | 8 | 16 | 64 | 128);

    pub(crate) fn has(self, other: Notes) -> bool {
        self.0 & other.0 != 0
    }

    /// Reports whether another thread could wake the task through what its futures share.
    pub(crate) fn is_open(self) -> bool {
        self.has(Notes::FROM_OUTSIDE)
    }

    /// Returns the notes that remain valid after another poll.
    ///
    /// A foreign future may keep a waker for the lifetime of the task, and need not clone it again.
    #[inline]
    pub(crate) fn kept(self) -> Notes {
        Notes(self.0 & Notes::FOREIGN.0)
    }
}

impl BitOr for Notes {
    type Output = Notes;

    #[inline]
    fn bitor(self, other: Notes) -> Notes {
        Notes(self.0 | other.0)
    }
}
