//! Debug mode in the loop: times polls, and reports tasks that misbehave.

use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use polyloop_reactor::Token;

use crate::catch::quietly;
use crate::event_loop::EventLoop;
use crate::inspect::debug::{Debug, Report};
use crate::inspect::lost_panic::Origin;
use crate::raw::waker::lend_waker;
use crate::task::id::TaskId;
use crate::task::info::TaskInfo;
use crate::tasks::stage::AnyTask;
use crate::time::clock::Stopwatch;

impl EventLoop {
    /// Polls a task, measures the duration, and reports a slow poll.
    #[cold]
    pub(super) fn watch_poll(
        &self,
        debug: &Debug,
        id: Token,
        mut task: Pin<&mut dyn AnyTask>,
    ) -> Poll<()> {
        let start = Stopwatch::start();
        let polled = lend_waker(id, |waker| task.as_mut().poll(&mut Context::from_waker(waker)));
        if polled.is_ready() {
            task.with_error(&mut |error| error.set_origin(self.origin_of_task()));
        }
        self.note_poll(debug, id, start.elapsed());
        polled
    }

    /// Records the duration of a poll, and reports it if it was slow.
    #[cold]
    pub(super) fn note_poll(&self, debug: &Debug, id: Token, took: Duration) {
        self.tasks.borrow_mut().add_busy(id, took);
        if took >= debug.slow_poll
            && let Some(task) = self.describe(TaskId::new(id))
        {
            let report = Report::SlowPoll { task, took };
            quietly(|| (debug.reporter)(&report));
        }
    }

    /// Describes the running task as the origin of a panic, in debug mode.
    #[cold]
    pub(crate) fn origin_of_task(&self) -> Option<Origin> {
        let debug = self.debug.as_ref()?;
        let task = self.describe(self.current_task()?)?;
        Some(Origin::of_task(self.address, debug.report_lost, task))
    }

    /// Describes a job that the running task spawns as the origin of a panic, in debug mode.
    #[inline]
    pub(crate) fn origin_of_job(
        &self,
        name: Option<&str>,
        spawned_at: &'static Location<'static>,
    ) -> Option<Box<Origin>> {
        let debug = self.debug.as_ref()?;
        Some(Box::new(Origin::of_job(self.address, debug.report_lost, name, spawned_at)))
    }

    /// Reports a panic whose outcome no caller has received.
    #[cold]
    pub(crate) fn report_lost(&self, mut report: Report) {
        let Some(debug) = &self.debug else { return };
        if let Report::LostPanic { task, .. } = &mut report
            && let Some(info) = self.describe(task.id)
        {
            // It was named, or its last poll was measured, after the panic.
            *task = TaskInfo { state: task.state, ..info };
        }
        quietly(|| (debug.reporter)(&report));
    }

    /// Describes a task that has not been freed yet, except for what it waits for.
    fn describe(&self, id: TaskId) -> Option<TaskInfo> {
        self.tasks.borrow().describe(id.token(), self.main_at.get())
    }
}
