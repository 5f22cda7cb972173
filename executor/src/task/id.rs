//! [`TaskId`]: identifies a task.

use std::fmt;

use polyloop_reactor::Token;

use crate::tasks::numbers::is_main;

/// Identifies a task among all tasks of the process, even after it has ended.
///
/// Ids are never reused in a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Token);

impl TaskId {
    pub(crate) fn new(token: Token) -> TaskId {
        TaskId(token)
    }

    pub(crate) fn token(self) -> Token {
        self.0
    }

    /// Returns whether this is the future of a `block_on`, rather than a spawned task.
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
