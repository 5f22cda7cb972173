//! The number by which a task is known.

use std::fmt;

use polyloop_reactor::Token;

use crate::tasks::numbers::is_main;

/// Names a task among all tasks of all loops of the process, also after it has ended.
///
/// Numbers are not used again while the process lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Token);

impl TaskId {
    pub(crate) fn new(token: Token) -> TaskId {
        TaskId(token)
    }

    pub(crate) fn token(self) -> Token {
        self.0
    }

    /// Reports whether this is the future of a `block_on`, rather than a task that was spawned.
    pub fn is_main(self) -> bool {
        is_main(self.0)
    }
}

/// Writes `main`, or the task's slot and, unless it is the slot's first task, a generation: `7`, `7.2`.
impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_main(), self.0.generation()) {
            (true, _) => f.write_str("main"),
            (false, 0) => write!(f, "{}", self.0.slot()),
            (false, generation) => write!(f, "{}.{generation}", self.0.slot()),
        }
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({} of loop {})", self, self.0.owner())
    }
}
