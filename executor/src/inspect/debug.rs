//! Debug mode: reports of tasks that misbehave.
//!
//! When it is disabled, it costs one branch per poll and no memory.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::panic::Location;
use std::time::Duration;

use crate::event_loop::mailbox::Address;
use crate::task::info::{Rounded, TaskInfo};

/// The default of [`Builder::slow_poll`](crate::Builder::slow_poll), which is asyncio's `slow_callback_duration`.
pub(crate) const DEFAULT_SLOW_POLL: Duration = Duration::from_millis(100);

/// A report of debug mode about a task that misbehaved. See [`Builder::debug`](crate::Builder::debug).
///
/// # References
/// Python's asyncio debug mode.
///
/// # Examples
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use polyloop::{Builder, spawn, yield_now};
/// use polyloop::runtime::Report;
///
/// let lost = Rc::new(RefCell::new(Vec::new()));
/// let names = lost.clone();
/// let reporter = move |report: &Report| {
///     if let Report::LostPanic { task, .. } = report {
///         names.borrow_mut().extend(task.name.clone());
///     }
/// };
/// let runtime = Builder::new().debug(true).reporter(reporter).build()?;
/// runtime.block_on(async {
///     drop(spawn(async { panic!("boom") }).named("worker"));
///     yield_now().await;
/// })?;
/// assert_eq!(*lost.borrow(), ["worker"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Report {
    /// A poll took longer than [`Builder::slow_poll`](crate::Builder::slow_poll) allows, and blocked all other tasks of the
    /// loop.
    SlowPoll {
        /// The task, after that poll.
        task: TaskInfo,
        /// How long the poll took.
        took: Duration,
    },
    /// A task panicked, and its outcome was dropped unseen: with the task's handle, its [`JoinSet`](crate::JoinSet), or the
    /// future that waited for it.
    LostPanic {
        /// The task.
        task: TaskInfo,
        /// The message of the panic.
        message: String,
    },
    /// The same for blocking work that a task of the loop has spawned on any pool.
    LostJobPanic {
        /// The name of the job, if it has one.
        name: Option<String>,
        /// The location where it was spawned.
        spawned_at: &'static Location<'static>,
        /// The message of the panic.
        message: String,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::SlowPoll { task, took } => {
                write!(f, "a poll took {}: {task}", Rounded(*took))
            }
            Report::LostPanic { task, message } => {
                write!(f, "{message}, and was not joined: {task}")
            }
            Report::LostJobPanic { name: Some(name), spawned_at, message } => {
                write!(f, "{message}, and was not joined: blocking work {name:?} at {spawned_at}")
            }
            Report::LostJobPanic { name: None, spawned_at, message } => {
                write!(f, "{message}, and was not joined: blocking work at {spawned_at}")
            }
        }
    }
}

/// The function that receives the reports of a loop.
pub(crate) type Reporter = Box<dyn Fn(&Report)>;

/// Reports a lost panic to the loop at an address, from any thread.
pub(crate) type ReportLost = fn(Address, Report);

/// The settings of debug mode.
pub(crate) struct Debug {
    pub(crate) slow_poll: Duration,
    pub(crate) reporter: Reporter,
    pub(crate) report_lost: ReportLost,
}

/// Writes a report to standard error: the default reporter.
pub(crate) fn print(report: &Report) {
    // Standard error may be a closed pipe, where `eprintln!` would panic.
    let _ = writeln!(io::stderr(), "polyloop: {report}");
}

/// Reads `POLYLOOP_DEBUG`: `1` enables debug mode; `0`, empty and unset do not.
pub(crate) fn debug_from_env() -> io::Result<bool> {
    match env::var_os("POLYLOOP_DEBUG") {
        None => Ok(false),
        Some(value) => parse_switch(&value.to_string_lossy()),
    }
}

/// Reads `POLYLOOP_SEED`: a number, or `None` if empty or unset.
pub(crate) fn seed_from_env() -> io::Result<Option<u64>> {
    match env::var_os("POLYLOOP_SEED") {
        None => Ok(None),
        Some(value) => parse_seed(&value.to_string_lossy()),
    }
}

fn parse_switch(value: &str) -> io::Result<bool> {
    match value {
        "1" => Ok(true),
        "0" | "" => Ok(false),
        _ => Err(invalid(format!("POLYLOOP_DEBUG is {value:?}; it can be 1 or 0"))),
    }
}

fn parse_seed(value: &str) -> io::Result<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    let seed = value.parse();
    seed.map(Some)
        .map_err(|error| invalid(format!("POLYLOOP_SEED is {value:?}, not a number: {error}")))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_is_on_or_off_or_an_error_that_names_it() {
        assert!(parse_switch("1").unwrap());
        assert!(!parse_switch("0").unwrap() && !parse_switch("").unwrap());
        assert!(parse_switch("yes").unwrap_err().to_string().contains("\"yes\""));
    }

    #[test]
    fn a_seed_is_a_number_or_an_error_that_names_it() {
        assert_eq!(parse_seed("18446744073709551615").unwrap(), Some(u64::MAX));
        assert_eq!(parse_seed("").unwrap(), None);
        for wrong in ["-1", "x", "1.5", "18446744073709551616"] {
            assert!(parse_seed(wrong).unwrap_err().to_string().contains(wrong));
        }
    }
}
