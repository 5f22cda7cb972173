//! kqueue(2): macOS and the BSDs; on Linux through the library libkqueue.
//!
//! Quirks, each with its consequence below:
//! - Reading and writing are two filters and are reported as two events: those of one wait are merged
//!   into one report for each descriptor.
//! - `EV_ONESHOT` disarms the filter that fired, not its twin: the twin is deleted with the next
//!   call, before it can report.
//! - Changes can be submitted with the wait, in one call, and so are those of `modify` and
//!   `unregister`. Not those of `register`, which has to return whether the system accepts
//!   the descriptor: it submits its own and all that are queued, each with a receipt
//!   (`EV_RECEIPT`), since without receipts one error would hide the others.
//! - An error of a queued change is reported by the wait (`EV_ERROR`), which does not distinguish
//!   additions from deletions: deletions carry no generation, and their errors mean
//!   that what was to be deleted is gone. A failed addition is reported as invalid, once.
//! - A queue that has not been submitted has no effect on a loop that watches this one through
//!   `pollable_fd`: after the first call of that, every change is submitted at once.
//! - Adding a filter anew does not change whether it is edge-triggered on every system: it is
//!   deleted first.
//! - Closing a descriptor removes its filters silently: it is not reported at all.
//! - `EV_EOF` on the read filter may come with data unread: both are reported. On the write filter it
//!   also means our own `shutdown`: it is a hang-up only if the read filter agrees or is absent.
//! - Data and the end of the stream may come under one edge, of which a read with room for
//!   more takes the data alone: a short read proves nothing.
//! - Some old systems answer the addition of one end of a closed pipe with EPIPE: the filter is
//!   added nevertheless, and reports what happened.
//! - Out-of-band data has a filter on macOS, OpenBSD and DragonFly (`EVFILT_EXCEPT`); elsewhere
//!   requesting it is `Unsupported`.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::lost::LostDescriptor;
use super::mechanism::{Mechanism, Outcome};
use super::table::{Entry, Table};
use crate::sys::kq::{self, Kevent};
use crate::{Backend, Event, Events, Interest, Mode, Notifier, Readiness, SystemCalls};

use changes::{Changes, change, failure};

mod changes;

/// Waits with kqueue(2).
#[derive(Debug)]
pub(super) struct Kqueue {
    /// Shared with the notifier, which triggers the user filter.
    kqueue: Arc<OwnedFd>,
    /// What the kernel does not know yet.
    changes: Changes,
    /// What the kernel fills.
    buffer: Changes,
    /// The descriptors of the present batch, in the order in which they were reported.
    batch: Vec<RawFd>,
    /// Whether a host may watch the kqueue's own descriptor.
    is_exposed: Cell<bool>,
    /// Whether a deletion is queued that must not be left until the next wait.
    is_urgent: bool,
    notifier: Notifier,
    calls: SystemCalls,
}

/// What the kqueue keeps in an entry of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The filters that the kernel has, or will have once the changes are submitted.
    requested: Interest,
    /// The filters that fired in the present batch.
    fired: Interest,
    /// What they reported.
    reported: Readiness,
}

impl Mechanism for Kqueue {
    const BACKEND: Backend = Backend::Kqueue;
    const HAS_EDGES: bool = true;

    type Place = Place;

    fn open() -> io::Result<Kqueue> {
        let kqueue = Arc::new(kq::open()?);
        let flags = kq::EV_ADD | kq::EV_CLEAR;
        let wake_up = change(WAKE_UP, kq::EVFILT_USER, flags, 0, WAKE_UP_COOKIE);
        kq::kevent(&kqueue, &[wake_up], &mut [], Some(Duration::ZERO))?;
        let trigger = Arc::clone(&kqueue);
        let notifier = Notifier::from_fn(move || {
            let raise = change(WAKE_UP, kq::EVFILT_USER, 0, kq::NOTE_TRIGGER, WAKE_UP_COOKIE);
            kq::kevent(&trigger, &[raise], &mut [], Some(Duration::ZERO))?;
            Ok(())
        });
        Ok(Kqueue {
            kqueue,
            changes: Changes::default(),
            buffer: Changes::default(),
            batch: Vec::new(),
            is_exposed: Cell::new(false),
            is_urgent: false,
            notifier,
            calls: SystemCalls::default(),
        })
    }

    fn check(call: &str, fd: RawFd, interest: Interest) -> io::Result<()> {
        if interest.is_priority() && kq::OUT_OF_BAND.is_none() {
            let message =
                format!("{call}: fd {fd}: this system's kqueue has no out-of-band filter");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    #[inline]
    fn add(
        &mut self,
        table: &mut Table<Place>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<Place> {
        let n_queued = self.changes.0.len();
        self.changes.add(fd, interest, mode, table.next_generation());
        if let Err(error) = self.submit(table, self.changes.0.len() - n_queued) {
            // One filter may have been accepted. If none was, there is nothing to delete.
            self.changes.delete(fd, interest);
            self.submit(table, 0)?;
            return Err(error);
        }
        Ok(Place { requested: interest, ..Place::default() })
    }

    #[inline]
    fn change(
        &mut self,
        entry: &mut Entry<Place>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        let former = entry.place.requested;
        // A filter that stays the same need not be touched, but an edge is requested again, so
        // that the present state is reported.
        let is_same = entry.mode == mode && mode != Mode::Edge;
        let kept = if is_same { former.without(former.without(interest)) } else { Interest::NONE };
        entry.place.requested = interest;
        self.changes.delete(fd, former.without(kept));
        self.changes.add(fd, interest.without(kept), mode, entry.generation);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, _: &mut Table<Place>, fd: RawFd, entry: Entry<Place>) -> io::Result<()> {
        self.changes.delete(fd, entry.place.requested);
        self.is_urgent = kq::is_deletion_urgent(fd);
        Ok(())
    }

    #[inline]
    fn commit(&mut self, table: &mut Table<Place>) -> io::Result<()> {
        let is_urgent = std::mem::take(&mut self.is_urgent);
        if is_urgent || self.is_exposed.get() { self.submit(table, 0) } else { Ok(()) }
    }

    #[inline]
    fn wait(
        &mut self,
        table: &mut Table<Place>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome> {
        // No more than fit, since an edge that is taken from the kernel must be reported, and no
        // fewer than changes, so that there is room for each error.
        let n_max = (events.capacity() - events.len()).min(1 << 20);
        if self.changes.0.len() > n_max {
            self.submit(table, 0)?;
            return Ok(Outcome::Again);
        }
        self.buffer.grow(n_max);
        self.calls.waits += 1;
        let buffer = &mut self.buffer.0[..n_max];
        let result = kq::kevent(&self.kqueue, &self.changes.0, buffer, timeout);
        // Made, even if a signal ended the wait.
        self.changes.0.clear();
        let Some(n_events) = result.map_err(|error| lost_or(error, &self.kqueue))? else {
            return Ok(Outcome::Interrupted);
        };
        if self.collect(table, n_events, events) {
            Ok(Outcome::Notified)
        } else if events.is_empty() && n_events > 0 {
            // A batch of errors or stale events.
            Ok(Outcome::Again)
        } else {
            Ok(Outcome::Complete)
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        Ok(self.notifier.clone())
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        if !kq::IS_POLLABLE {
            return None;
        }
        if !self.is_exposed.replace(true) && !self.changes.0.is_empty() {
            // What is queued takes effect in the turn that this brings about. If it fails, the
            // next event brings that turn about.
            let _ = self.notifier.notify();
        }
        Some(self.kqueue.as_fd())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

impl Kqueue {
    /// Submits all changes without waiting, and returns the first error among the last
    /// `n_own` of them. Errors of the others are kept for the next wait to report.
    fn submit(&mut self, table: &mut Table<Place>, n_own: usize) -> io::Result<()> {
        for change in &mut self.changes.0 {
            change.flags |= kq::EV_RECEIPT;
        }
        let n_changes = self.changes.0.len();
        if n_changes == 0 {
            return Ok(());
        }
        self.buffer.grow(n_changes);
        self.calls.controls += 1;
        let receipts = &mut self.buffer.0[..n_changes];
        let result = kq::kevent(&self.kqueue, &self.changes.0, receipts, Some(Duration::ZERO));
        self.changes.0.clear();
        // A signal cannot end a call that does not wait; if it did, the changes were made.
        let n_receipts = result?.unwrap_or(0);
        let mut outcome = Ok(());
        for index in 0..n_receipts {
            let receipt = self.buffer.0[index];
            if index >= n_changes - n_own {
                outcome = outcome.and(failure(&receipt).map_or(Ok(()), Err));
            } else {
                self.note_failure(table, &receipt);
            }
        }
        outcome
    }

    /// Keeps the failure of an addition for the next wait to report.
    fn note_failure(&mut self, table: &mut Table<Place>, receipt: &Kevent) {
        let fd = receipt.ident as RawFd;
        let generation = receipt.udata.addr() as u32;
        if let Some(entry) = table.get_mut(fd)
            && entry.generation == generation
            && entry.armed
            && failure(receipt).is_some()
        {
            let requested = std::mem::take(&mut entry.place.requested);
            self.changes.delete(fd, requested);
            table.mark_closed(fd);
        }
    }

    /// Turns the first `n_events` of the buffer into events. Returns whether there was a notification.
    fn collect(&mut self, table: &mut Table<Place>, n_events: usize, events: &mut Events) -> bool {
        let mut notified = false;
        for index in 0..n_events {
            let kevent = self.buffer.0[index];
            if kevent.flags & kq::EV_ERROR != 0 {
                self.note_failure(table, &kevent);
            } else if kevent.filter == kq::EVFILT_USER {
                notified |= self.notifier.acknowledge();
            } else {
                self.note_event(table, &kevent);
            }
        }
        for index in 0..self.batch.len() {
            self.report(table, self.batch[index], events);
        }
        self.batch.clear();
        notified
    }

    fn note_event(&mut self, table: &mut Table<Place>, kevent: &Kevent) {
        let fd = kevent.ident as RawFd;
        let generation = kevent.udata.addr() as u32;
        let entry = table.get_mut(fd).filter(|entry| entry.generation == generation);
        let Some(entry) = entry else { return };
        let (filter, reported) = changes::to_readiness(kevent);
        if entry.place.fired.is_empty() {
            self.batch.push(fd);
        }
        entry.place.fired |= filter;
        entry.place.reported |= reported;
    }

    fn report(&mut self, table: &mut Table<Place>, fd: RawFd, events: &mut Events) {
        let Some(entry) = table.get_mut(fd) else { return };
        let fired = std::mem::take(&mut entry.place.fired);
        let mut readiness = std::mem::take(&mut entry.place.reported);
        if entry.interest.is_readable() && !readiness.is_read_closed() {
            readiness = readiness.without(Readiness::HANG_UP);
        }
        events.push(Event { token: entry.token, readiness });
        if entry.mode == Mode::OneShot {
            entry.armed = false;
            let twins = std::mem::take(&mut entry.place.requested).without(fired);
            self.changes.delete(fd, twins);
        }
    }
}

/// The identity of the user filter that ends a wait. Each filter has its own identities.
const WAKE_UP: usize = 0;

/// Belongs to no registration, like [`changes::DELETION`].
const WAKE_UP_COOKIE: usize = 0;

/// Explains the error of a wait if the program has closed the kqueue.
#[cold]
fn lost_or(error: io::Error, kqueue: &OwnedFd) -> io::Error {
    if error.raw_os_error() == Some(libc::EBADF) {
        return LostDescriptor::closed(kqueue.as_raw_fd(), error);
    }
    error
}
