//! [`Dump`]: all tasks of a loop as a tree.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::{TaskId, TaskInfo};

/// The maximum indentation. Without it, the text of a chain of tasks, each of which spawned the next, would grow with the
/// square of its length. Deeper tasks are listed at this level with their parent's number.
const MAX_LEVELS: usize = 40;

/// A snapshot of a runtime's tasks. Its `Display` prints a tree, with each task below the one that spawned it.
///
/// ```text
/// main at src/main.rs:9:5, polled 3 times, waits for the end of task 1
/// ├─ task 1 "acceptor" at src/main.rs:12:17, polled 40 times, waits for readable fd 9
/// │  ├─ task 2 at src/main.rs:15:9, polled 7 times, waits for readable fd 10 or timer in 3.2s
/// │  └─ task 4 at src/main.rs:15:9, polled 2 times, ready
/// └─ task 3 "report" at src/main.rs:20:5, polled 1 time, waits for a message
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dump {
    tasks: Vec<TaskInfo>,
}

impl Dump {
    pub(crate) fn new(tasks: Vec<TaskInfo>) -> Dump {
        Dump { tasks }
    }

    /// Returns the tasks.
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }
}

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: HashSet<TaskId> = self.tasks.iter().map(|task| task.id).collect();
        let mut children: HashMap<Option<TaskId>, Vec<&TaskInfo>> = HashMap::new();
        for task in &self.tasks {
            // Tasks whose parent has ended are at the root.
            let parent = task.parent.filter(|parent| known.contains(parent));
            children.entry(parent).or_default().push(task);
        }
        let mut separator = "";
        for root in children.get(&None).into_iter().flatten() {
            write!(f, "{separator}{root}")?;
            separator = "\n";
            // The remaining tasks with their indentation, in an explicit stack, because a chain of parents may exceed the
            // thread's stack.
            let mut left = vec![(root.id, String::new(), 0, 0)];
            while let Some((parent, indent, level, n_drawn)) = left.pop() {
                let siblings = children.get(&Some(parent)).map_or(&[][..], Vec::as_slice);
                let Some(task) = siblings.get(n_drawn) else { continue };
                let is_last = n_drawn + 1 == siblings.len();
                let (branch, below) =
                    if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
                write!(f, "\n{indent}{branch}{task}")?;
                let deeper = if level < MAX_LEVELS {
                    format!("{indent}{below}")
                } else {
                    // Never the main future, which is at the root.
                    write!(f, ", spawned by task {parent}")?;
                    indent.clone()
                };
                if !is_last {
                    left.push((parent, indent, level, n_drawn + 1));
                }
                left.push((task.id, deeper, level.saturating_add(1).min(MAX_LEVELS), 0));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use polyloop_reactor::Token;

    use crate::tasks::numbers::MAIN;

    use super::super::{TaskState, WaitReason};
    use super::*;

    fn id(slot: u32) -> TaskId {
        let kind = if slot == 0 { MAIN } else { 0 };
        TaskId::new(Token::new(0, kind, slot))
    }

    fn task(slot: u32, parent: Option<u32>) -> TaskInfo {
        TaskInfo {
            id: id(slot),
            name: None,
            parent: parent.map(id),
            spawned_at: Location::caller(),
            state: TaskState::Waiting,
            polls: 2,
            busy: None,
            waits_for: vec![WaitReason::Message],
        }
    }

    /// Prints the tree with numbers only.
    fn draw(tasks: Vec<TaskInfo>) -> String {
        let dump = Dump::new(tasks).to_string();
        let short = dump.lines().map(|line| line.split(" at ").next().unwrap_or(line));
        short.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn children_stand_below_their_parents() {
        let tasks = vec![
            task(0, None),
            task(1, Some(0)),
            task(2, Some(1)),
            task(3, Some(0)),
            task(4, Some(1)),
            task(5, Some(3)),
        ];
        let expected = "main\n├─ task 1\n│  ├─ task 2\n│  └─ task 4\n└─ task 3\n   └─ task 5";
        assert_eq!(draw(tasks), expected);
    }

    #[test]
    fn an_orphan_stands_at_the_root() {
        assert_eq!(draw(vec![task(0, None), task(2, Some(1))]), "main\ntask 2");
    }

    #[test]
    fn a_chain_of_a_thousand_parents_is_drawn() {
        let tasks = (0..1_000).map(|slot| task(slot, slot.checked_sub(1))).collect();
        assert_eq!(draw(tasks).lines().count(), 1_000);
    }

    #[test]
    fn a_chain_of_parents_takes_space_by_its_length() {
        let chain = |n: u32| {
            let tasks = (0..n).map(|slot| task(slot, slot.checked_sub(1))).collect();
            Dump::new(tasks).to_string()
        };
        let (short, long) = (chain(1_000), chain(100_000));
        assert!(long.len() < 150 * short.len(), "{} and {} bytes", short.len(), long.len());
        let last = long.lines().last().unwrap();
        assert!(
            last.contains("task 99999 at ") && last.ends_with(", spawned by task 99998"),
            "{last}"
        );
    }
}
