//! Panics whose outcome is given to no one, for debug mode to report.
//!
//! The error that a panic becomes carries a report of itself. Whatever gives the error to a caller
//! takes the report out, by [`given`]; wherever else the error ends, with a handle, a set, a packet or a
//! future that has collected it, it is dropped, and the report is made. So those who hold outcomes need
//! not know about it.

use std::borrow::Cow;
use std::panic::Location;

use crate::event_loop::EventLoop;
use crate::event_loop::mailbox::{self, Mail};
use crate::inspect::debug::{Report, print};
use crate::raw::waker::{at_home, current};
use crate::task::{TaskInfo, TaskState};
use crate::{Handle, JoinError};

/// Says where a panic came from, and whom to tell. There is none outside debug mode.
pub(crate) struct Origin {
    home: Handle,
    kind: Kind,
}

enum Kind {
    Task(TaskInfo),
    Job { name: Option<Cow<'static, str>>, spawned_at: &'static Location<'static> },
}

impl Origin {
    /// Describes the running task.
    #[cold]
    pub(crate) fn of_task() -> Option<Origin> {
        current(|event_loop| {
            let home = event_loop.debugged()?;
            let task = event_loop.describe(event_loop.current_task()?)?;
            Some(Origin { home, kind: Kind::Task(task) })
        })?
    }

    /// Describes a job that the running loop spawns.
    #[inline]
    pub(crate) fn of_job(
        name: Option<&Cow<'static, str>>,
        spawned_at: &'static Location<'static>,
    ) -> Option<Box<Origin>> {
        let home = current(EventLoop::debugged)??;
        Some(Box::new(Origin { home, kind: Kind::Job { name: name.cloned(), spawned_at } }))
    }
}

/// Reports a panic when it is dropped.
pub(crate) struct LostPanic {
    home: Handle,
    /// None once it is clear that there is nothing to report.
    report: Option<Report>,
}

impl LostPanic {
    pub(crate) fn new(origin: Origin, message: String) -> LostPanic {
        let report = match origin.kind {
            Kind::Task(mut task) => {
                task.state = TaskState::Finished;
                Report::LostPanic { task, message }
            }
            Kind::Job { name, spawned_at } => {
                Report::LostJobPanic { name: name.map(Cow::into_owned), spawned_at, message }
            }
        };
        LostPanic { home: origin.home, report: Some(report) }
    }

    /// Ends without a report.
    pub(crate) fn dismiss(mut self) {
        self.report = None;
    }
}

impl Drop for LostPanic {
    fn drop(&mut self) {
        let Some(report) = self.report.take() else { return };
        let mut stray = Stray(Some(report));
        let home = self.home;
        at_home(home.number(), |event_loop| {
            if event_loop.is_reached_by(home)
                && let Some(report) = stray.0.take()
            {
                event_loop.report_lost(report);
            }
        });
        if stray.0.is_some() {
            let letter = move || {
                if let Some(report) = stray.0.take() {
                    current(|event_loop| event_loop.report_lost(report));
                }
            };
            mailbox::send_to(home.number(), home.incarnation(), Mail::Run(Box::new(letter)));
        }
    }
}

/// A report on its way to its loop. If that ends first, and the reporter with it, it is printed.
struct Stray(Option<Report>);

impl Drop for Stray {
    fn drop(&mut self) {
        if let Some(report) = &self.0 {
            print(report);
        }
    }
}

/// Notes that an outcome is given to a caller, so that its panic is not lost.
#[inline]
pub(crate) fn given<T>(mut outcome: Result<T, JoinError>) -> Result<T, JoinError> {
    if let Err(error) = &mut outcome {
        error.note_given();
    }
    outcome
}
