//! [`TaskInfo`]: the description of a task.

use std::fmt;
use std::os::fd::RawFd;
use std::panic::Location;
use std::time::Duration;

use super::TaskId;

/// A snapshot of one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The id, which is unique in the process.
    pub id: TaskId,
    /// The name, if the task has one.
    pub name: Option<String>,
    /// The task that spawned it, or `None` if it was spawned from outside the runtime.
    pub parent: Option<TaskId>,
    /// The location where it was spawned, or where `block_on` was called.
    pub spawned_at: &'static Location<'static>,
    /// The state.
    pub state: TaskState,
    /// The number of polls, modulo 2³².
    pub polls: u32,
    /// The total time of its polls. Measured in debug mode only.
    pub busy: Option<Duration>,
    /// Everything that can wake it, as far as the runtime knows: a read with a timeout has two reasons. Empty unless the state
    /// is [`TaskState::Waiting`].
    pub waits_for: Vec<WaitReason>,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// The task is being polled.
    Running,
    /// The task is in the ready queue.
    Ready,
    /// The task was pending when it was last polled.
    Waiting,
    /// The task has finished, and its output has not been taken.
    Finished,
}

/// A reason for which a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitReason {
    /// Readability of a descriptor.
    Readable(RawFd),
    /// Writability of a descriptor.
    Writable(RawFd),
    /// A timer.
    Timer {
        /// The remaining time.
        left: Duration,
    },
    /// The output of a task of the same loop.
    Join(TaskId),
    /// Tasks of a [`JoinSet`](crate::JoinSet), a [`TaskGroup`](crate::TaskGroup) or a [`gather`](crate::gather).
    Tasks,
    /// A message from a channel.
    Message,
    /// Capacity in a channel that is full.
    Capacity,
    /// The output of work on another thread.
    OtherThread,
    /// A cancellation token.
    Cancellation,
    /// A foreign future that has cloned the task's waker.
    Foreign,
    /// Nothing: the task returned pending without registering its waker.
    Nothing,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Readable(fd) => write!(f, "readable fd {fd}"),
            WaitReason::Writable(fd) => write!(f, "writable fd {fd}"),
            WaitReason::Timer { left } => write!(f, "timer in {}", Rounded(*left)),
            WaitReason::Join(id) => write!(f, "the end of task {id}"),
            WaitReason::Tasks => f.write_str("the tasks of a set"),
            WaitReason::Message => f.write_str("a message"),
            WaitReason::Capacity => f.write_str("capacity in a channel"),
            WaitReason::OtherThread => f.write_str("work on another thread"),
            WaitReason::Cancellation => f.write_str("a cancellation token"),
            WaitReason::Foreign => f.write_str("a future that is not polyloop's"),
            WaitReason::Nothing => f.write_str("nothing that could wake it"),
        }
    }
}

/// Formats one task in one line.
impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id.is_main() {
            f.write_str("main")?;
        } else {
            write!(f, "task {}", self.id)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        write!(f, " at {}", self.spawned_at)?;
        let times = if self.polls == 1 { "time" } else { "times" };
        write!(f, ", polled {} {times}", self.polls)?;
        if let Some(busy) = self.busy {
            write!(f, ", busy for {}", Rounded(busy))?;
        }
        match self.state {
            TaskState::Running => f.write_str(", runs"),
            TaskState::Ready => f.write_str(", ready"),
            TaskState::Finished => f.write_str(", over, not joined"),
            TaskState::Waiting => {
                let mut separator = ", waits for ";
                for reason in &self.waits_for {
                    write!(f, "{separator}{reason}")?;
                    separator = " or ";
                }
                Ok(())
            }
        }
    }
}

/// Formats a duration with three or four digits.
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit_ns = match self.0.as_nanos() {
            0..10_000 => 1,
            10_000..10_000_000 => 1_000,
            10_000_000..10_000_000_000 => 1_000_000,
            _ => 1_000_000_000,
        };
        let whole = self.0.as_nanos() / unit_ns * unit_ns;
        let whole = u64::try_from(whole).map_or(self.0, Duration::from_nanos);
        write!(f, "{whole:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_to_read() {
        let text = |ns| Rounded(Duration::from_nanos(ns)).to_string();
        assert_eq!(text(0), "0ns");
        assert_eq!(text(9_999), "9.999µs");
        assert_eq!(text(12_345_678), "12ms");
        assert_eq!(text(3_200_000_001), "3.2s");
        assert_eq!(text(3_600_123_456_789), "3600s");
        assert_eq!(Rounded(Duration::MAX).to_string(), format!("{:?}", Duration::MAX));
    }
}
