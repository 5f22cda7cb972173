//! Inspection of tasks: which tasks there are, and what each waits for.
//!
//! Inspection costs running tasks almost nothing: the state is collected on demand, from the runtime's tables of
//! descriptors, timers and tasks.
//!
//! # Examples
//! ```
//! use std::time::Duration;
//! use polyloop::{sleep, spawn, task, yield_now};
//!
//! # polyloop::run(async {
//! let nap = spawn(sleep(Duration::from_secs(3_600))).named("nap");
//! yield_now().await;
//! let seen = task::all().into_iter().find(|task| Some(task.id) == nap.id()).unwrap();
//! assert_eq!(seen.name.as_deref(), Some("nap"));
//! assert!(matches!(seen.waits_for[..], [task::WaitReason::Timer { .. }]));
//! println!("{}", task::dump());
//! # }).unwrap();
//! ```

pub(crate) mod dump;

pub(crate) mod id;

pub(crate) mod info;

pub(crate) mod yield_now;

pub use dump::Dump;
pub use id::TaskId;
pub use info::{TaskInfo, TaskState, WaitReason};

use crate::event_loop::EventLoop;
use crate::raw::current;

/// Returns the id of the current task, or `None` outside a task.
///
/// The future of `block_on` counts as a task here.
///
/// # References
/// Python's `asyncio.current_task`.
///
/// # Examples
/// ```
/// use polyloop::{spawn, task};
///
/// assert_eq!(task::current(), None);
/// # polyloop::run(async {
/// let child = spawn(async { task::current() });
/// let id = child.id();
/// assert_eq!(child.await.unwrap(), id);
/// # }).unwrap();
/// ```
pub fn current() -> Option<TaskId> {
    current::current(EventLoop::current_task).flatten()
}

/// Sets the name of the current task, for [`all`], [`dump`] and reports. Outside a task it does nothing.
///
/// # References
/// Python's `Task.set_name`.
///
/// # Examples
/// ```
/// use polyloop::{spawn, task};
///
/// # polyloop::run(async {
/// spawn(async {
///     task::set_name("reader");
///     assert!(task::dump().to_string().contains("reader"));
/// }).await.unwrap();
/// # }).unwrap();
/// ```
pub fn set_name(name: impl Into<String>) {
    if let Some(id) = current() {
        current::current(|event_loop| event_loop.set_name(id.token(), name.into()));
    }
}

/// Returns all tasks of the current runtime that have not finished, or whose output has not been taken. Empty outside a
/// runtime.
///
/// The future of `block_on` comes first, the others are in no particular order. O(tasks + sources + timers).
///
/// # References
/// Python's `asyncio.all_tasks`.
pub fn all() -> Vec<TaskInfo> {
    current::current(EventLoop::snapshot).unwrap_or_default()
}

/// Returns the tree of tasks of the current runtime, with what each waits for.
///
/// It is empty outside a runtime. For a runtime that is not running, use [`Runtime::dump`](crate::Runtime::dump).
///
/// # References
/// Python's `asyncio.print_call_graph`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let child = polyloop::spawn(std::future::pending::<()>()).named("stuck");
/// polyloop::yield_now().await;
/// let dump = polyloop::task::dump().to_string();
/// assert!(dump.contains("\"stuck\"") && dump.contains("nothing"), "{dump}");
/// # }).unwrap();
/// ```
pub fn dump() -> Dump {
    Dump::new(all())
}
