//! Snapshots: what each task of a loop waits for, collected on demand.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::task::Waker;
use std::time::Duration;

use polyloop_reactor::{Direction, Token};

use crate::event_loop::EventLoop;
use crate::inspect::notes::Notes;
use crate::inspect::stuck::{Stuck, n_threads};
use crate::raw::waker::id_of;
use crate::task::dump::Dump;
use crate::task::id::TaskId;
use crate::task::info::{TaskInfo, TaskState, WaitReason};

impl EventLoop {
    /// Describes all tasks: the future of `block_on` first, if there is one.
    pub(crate) fn snapshot(&self) -> Vec<TaskInfo> {
        let mut reasons = self.reasons();
        let tasks = self.tasks.borrow();
        let mut infos = Vec::new();
        for (mut info, notes) in tasks.describe_all(self.main_at.get()) {
            if info.state == TaskState::Waiting && Some(info.id) == self.current_task() {
                // The main future, which is never taken out of its slot.
                info.state = TaskState::Running;
            }
            if info.state == TaskState::Waiting {
                info.waits_for = reasons.remove(&info.id.token()).unwrap_or_default();
                add_noted(&mut info.waits_for, notes);
                if info.waits_for.is_empty() {
                    info.waits_for.push(WaitReason::Nothing);
                }
            }
            infos.push(info);
        }
        infos
    }

    /// Looks up which tasks the tables of the loop would wake, and why.
    fn reasons(&self) -> HashMap<Token, Vec<WaitReason>> {
        let mut reasons: HashMap<Token, Vec<WaitReason>> = HashMap::new();
        let mut add = |waker: &Waker, reason| {
            if let Some(id) = id_of(waker) {
                reasons.entry(id).or_default().push(reason);
            }
        };
        for (fd, direction, waker) in self.reactor.borrow().waiters() {
            let fd = fd.as_raw_fd();
            add(
                waker,
                match direction {
                    Direction::Read => WaitReason::Readable(fd),
                    Direction::Write => WaitReason::Writable(fd),
                },
            );
        }
        let now_ns = self.clock.now_ns();
        for (deadline_ns, waker) in self.timers.borrow().armed() {
            let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns));
            add(waker, WaitReason::Timer { left });
        }
        for (task, joiner) in self.tasks.borrow().joiners() {
            add(joiner, WaitReason::Join(TaskId::new(task)));
        }
        reasons
    }

    /// Returns an error if nothing can ever wake one of the tasks. Called when no task is ready and no timer is armed.
    #[cold]
    pub(super) fn check_stuck(&self) -> io::Result<()> {
        if self.can_be_woken() {
            return Ok(());
        }
        self.clear_current_task();
        let dump = Dump::new(self.snapshot());
        Err(io::Error::new(io::ErrorKind::Deadlock, Stuck::new(dump)))
    }

    /// Reports whether the system or another thread might wake a task.
    fn can_be_woken(&self) -> bool {
        self.has_wakers() || self.mailbox.has_messages_at_last()
    }

    /// Reports whether there is anything that may still wake a task.
    ///
    /// A thread that has just ended may have woken one with its last action, so the mailbox is checked after this.
    fn has_wakers(&self) -> bool {
        let tasks = self.tasks.borrow();
        let is_daemon = |waker: &Waker| id_of(waker).is_some_and(|id| tasks.is_daemon(id));
        let reactor = self.reactor.borrow();
        if reactor.waiters().any(|(_, _, waker)| !is_daemon(waker)) || self.workers.is_busy() {
            return true;
        }
        // From here on, only a foreign thread could wake one.
        let is_open = self.has_handles.get()
            // A thread may hold a sleep without a deadline, and reset it.
            || self.timers.borrow().endless().any(|waker| !is_daemon(waker))
            || tasks.notes(self.main_at.get().is_some()).any(Notes::is_open)
            || tasks.joiners().any(|(_, joiner)| id_of(joiner).is_none());
        is_open && self.has_other_threads()
    }

    /// Reports whether there are threads besides this one and those of the pool, if the system reports their number.
    fn has_other_threads(&self) -> bool {
        let before = self.workers.census();
        let Some(n_threads) = n_threads() else { return true };
        let after = self.workers.census();
        // Threads of the pool may have ended meanwhile, which lowers the second count. If some have been started, another
        // thread has given them work.
        before.n_started != after.n_started || n_threads > 1 + after.n_threads
    }
}

/// Converts the notes that leaf futures left.
fn add_noted(reasons: &mut Vec<WaitReason>, notes: Notes) {
    let noted = [
        (Notes::LOCAL_MESSAGE, WaitReason::Message),
        (Notes::MESSAGE, WaitReason::Message),
        (Notes::LOCAL_ROOM, WaitReason::Capacity),
        (Notes::ROOM, WaitReason::Capacity),
        (Notes::ELSEWHERE, WaitReason::OtherThread),
        (Notes::CHILDREN, WaitReason::Tasks),
        (Notes::TOKEN, WaitReason::Cancellation),
        (Notes::FOREIGN, WaitReason::Foreign),
    ];
    for (note, reason) in noted {
        if notes.has(note) && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}
