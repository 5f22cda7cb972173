//! What a task waits for where no table of its loop shows it.
//!
//! Which task waits for a descriptor, a timer or a task of the loop is looked up when it is asked for.
//! Other leaf futures leave a bit when they are pending, so that seeing a program think costs
//! one byte for each task and no allocation.

use std::ops::BitOr;

/// What the leaf futures of a task left in its last poll: a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(u8);

impl Notes {
    pub(crate) const NONE: Notes = Notes(0);
    /// A message in a channel of this thread.
    pub(crate) const LOCAL_MESSAGE: Notes = Notes(1);
    /// Room in a channel of this thread.
    pub(crate) const LOCAL_ROOM: Notes = Notes(2);
    /// A message in a channel between threads.
    pub(crate) const MESSAGE: Notes = Notes(4);
    /// Room in a channel between threads.
    pub(crate) const ROOM: Notes = Notes(8);
    /// The result of work that is done elsewhere: on a blocking thread, on another loop.
    pub(crate) const ELSEWHERE: Notes = Notes(16);
    /// Tasks of a set.
    pub(crate) const CHILDREN: Notes = Notes(32);
    /// A cancellation token.
    pub(crate) const TOKEN: Notes = Notes(64);
    /// The waker was cloned by a future that is not ours, which may have put it anywhere.
    pub(crate) const FOREIGN: Notes = Notes(128);

    /// What other threads may end.
    const FROM_OUTSIDE: Notes = Notes(4 | 8 | 16 | 64 | 128);

    pub(crate) fn has(self, other: Notes) -> bool {
        self.0 & other.0 != 0
    }

    /// Reports whether a thread that knows nothing but what the futures share could wake the task.
    pub(crate) fn is_open(self) -> bool {
        self.has(Notes::FROM_OUTSIDE)
    }

    /// Returns what is left of the notes after another poll.
    ///
    /// A foreign future may keep a waker for as long as the task lives, and need not clone it
    /// again.
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
