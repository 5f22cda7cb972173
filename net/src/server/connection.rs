//! The open connections of a server, and what each leaves in the report.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};

use polyloop_executor::{CancellationToken, JoinError, JoinHandle};

use super::ServerEvent;
use super::ServerReport;
use super::event::{OnEvent, report};
use super::idle::{Activity, IdleWatch};

/// What the accept loop, the connections and the shutdown handles share.
#[derive(Default)]
pub(super) struct Shared {
    /// Cancelled when a shutdown is requested.
    pub(super) shutdown: CancellationToken,
    n_open: Cell<usize>,
    report: Cell<ServerReport>,
    /// Wakes the task of `serve` when a connection ends or a shutdown is requested.
    waker: Cell<Option<Waker>>,
    /// Set when a connection ends: what was exhausted may be available again.
    has_room: Cell<bool>,
    /// The tasks of the connections, by number. A map whose memory shrinks as they end, without a long step.
    pub(super) tasks: RefCell<BTreeMap<u64, JoinHandle<()>>>,
    /// `None` without an idle timeout.
    pub(super) idle: RefCell<Option<IdleWatch>>,
}

impl Shared {
    pub(super) fn n_open(&self) -> usize {
        self.n_open.get()
    }

    pub(super) fn report(&self) -> ServerReport {
        self.report.get()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut ServerReport)) {
        let mut report = self.report.get();
        change(&mut report);
        self.report.set(report);
    }

    /// Sets the task to wake when a connection ends or a shutdown is requested.
    pub(super) fn set_waker(&self, waker: &Waker) {
        drop(self.waker.replace(Some(waker.clone())));
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Aborts the connections that have exceeded the idle timeout, and has the task woken for the next check.
    pub(super) fn abort_idle(&self, cx: &mut Context<'_>) {
        let idle = match &mut *self.idle.borrow_mut() {
            None => return,
            Some(idle) => idle.poll(cx),
        };
        for id in idle {
            // Removed first: the abort drops the handler, which may run any code.
            let task = self.tasks.borrow_mut().remove(&id);
            if let Some(task) = task {
                task.abort();
            }
        }
    }

    /// Reports whether a connection has ended since the last call.
    pub(super) fn take_has_room(&self) -> bool {
        self.has_room.take()
    }
}

/// Counts a connection while it is open. Owned by the connection's task, so it is dropped however
/// that ends.
pub(super) struct OpenConnection<A: Clone> {
    shared: Rc<Shared>,
    on_event: OnEvent<A>,
    id: u64,
    peer: A,
    /// `None` without an idle timeout.
    pub(super) activity: Option<Rc<Activity>>,
}

impl<A: Clone> OpenConnection<A> {
    pub(super) fn new(
        shared: &Rc<Shared>,
        on_event: &OnEvent<A>,
        id: u64,
        peer: A,
    ) -> OpenConnection<A> {
        shared.n_open.set(shared.n_open.get() + 1);
        let activity = shared.idle.borrow_mut().as_mut().map(|idle| idle.add(id));
        let (shared, on_event) = (Rc::clone(shared), Rc::clone(on_event));
        OpenConnection { shared, on_event, id, peer, activity }
    }

    /// Counts and reports the handler's result, and returns the payload if it panicked.
    pub(super) fn finish(
        self,
        result: Result<io::Result<()>, JoinError>,
    ) -> Option<Box<dyn Any + Send>> {
        match result {
            Ok(Ok(())) => {
                self.shared.count(|report| report.served += 1);
                None
            }
            Ok(Err(error)) => {
                self.shared.count(|report| report.failed += 1);
                let event = ServerEvent::HandlerFailed(self.peer.clone(), &error);
                report(&self.on_event, event);
                None
            }
            Err(error) => {
                self.shared.count(|report| report.failed += 1);
                report(&self.on_event, ServerEvent::HandlerPanicked(self.peer.clone()));
                error.try_into_panic().ok()
            }
        }
    }
}

impl<A: Clone> Drop for OpenConnection<A> {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            if let Some(idle) = &mut *self.shared.idle.borrow_mut() {
                idle.remove(self.id);
            }
            if activity.has_expired() {
                self.shared.count(|report| report.idle += 1);
                report(&self.on_event, ServerEvent::ConnectionIdle(self.peer.clone()));
            }
        }
        self.shared.n_open.set(self.shared.n_open.get() - 1);
        self.shared.has_room.set(true);
        // Bound to a name, so that the borrow ends before the handle is dropped.
        let task = self.shared.tasks.borrow_mut().remove(&self.id);
        drop(task);
        self.shared.wake();
    }
}
