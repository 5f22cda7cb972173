//! Panics whose outcome no caller receives, which debug mode reports.
//!
//! The error of a panic contains its report. Code that returns the error to a caller takes the report out with
//! [`given`](crate::join::join_error::given). If the error is dropped instead, with a handle, a set, a packet or a future
//! that has collected it, the report is made. So the containers of outcomes need no code for this.

use std::panic::Location;

use crate::event_loop::mailbox::Address;
use crate::inspect::debug::{Report, ReportLost};
use crate::task::info::{TaskInfo, TaskState};

/// The origin of a panic, and how to report it. There is none outside debug mode.
pub(crate) struct Origin {
    address: Address,
    report_lost: ReportLost,
    kind: Kind,
}

enum Kind {
    Task(TaskInfo),
    Job { name: Option<String>, spawned_at: &'static Location<'static> },
}

impl Origin {
    pub(crate) fn of_task(address: Address, report_lost: ReportLost, task: TaskInfo) -> Origin {
        Origin { address, report_lost, kind: Kind::Task(task) }
    }

    pub(crate) fn of_job(
        address: Address,
        report_lost: ReportLost,
        name: Option<&str>,
        spawned_at: &'static Location<'static>,
    ) -> Origin {
        let kind = Kind::Job { name: name.map(str::to_owned), spawned_at };
        Origin { address, report_lost, kind }
    }
}

/// Reports a panic when it is dropped.
pub(crate) struct LostPanic {
    address: Address,
    report_lost: ReportLost,
    /// `None` once it is known that there is nothing to report.
    report: Option<Report>,
}

impl LostPanic {
    pub(crate) fn new(origin: Origin, message: String) -> LostPanic {
        let Origin { address, report_lost, kind } = origin;
        let report = match kind {
            Kind::Task(mut task) => {
                task.state = TaskState::Finished;
                Report::LostPanic { task, message }
            }
            Kind::Job { name, spawned_at } => Report::LostJobPanic { name, spawned_at, message },
        };
        LostPanic { address, report_lost, report: Some(report) }
    }

    /// Drops the report without making it.
    pub(crate) fn dismiss(mut self) {
        self.report = None;
    }
}

impl Drop for LostPanic {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            (self.report_lost)(self.address, report);
        }
    }
}
