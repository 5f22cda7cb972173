//! kqueue(2): macOS and the BSDs; on Linux through the library libkqueue.
//!
//! Quirks, each with its consequence below:
//! - Reading and writing are two filters and come as two events: those of one wait are merged
//!   into one report for each descriptor.
//! - `EV_ONESHOT` disarms the filter that fired, not its twin: the twin is deleted with the next
//!   call, before it can report.
//! - Changes can be handed over with the wait, in one call, and so are those of `modify` and
//!   `unregister`. Not those of `register`, which has to say at once whether the system accepts
//!   the descriptor: it hands over its own and all that are queued, each asking for a receipt
//!   (`EV_RECEIPT`), for without receipts one error would hide the others.
//! - An error of a queued change arrives with the wait (`EV_ERROR`) and does not say whether it
//!   belongs to an addition or a deletion: deletions carry no generation, and their errors mean
//!   that what was to be deleted is gone. A failed addition is reported as invalid, once.
//! - A queue that has not been handed over is not seen by a loop that watches this one through
//!   `pollable_fd`: once that was lent, every change goes at once.
//! - Adding a filter anew does not change whether it is edge-triggered on every system: it is
//!   deleted first.
//! - Closing a descriptor removes its filters without a word: it is not reported at all.
//! - `EV_EOF` on the read filter may come with data unread: both are told. On the write filter it
//!   also means our own `shutdown`: it is a hang-up only if the read filter agrees or is absent.
//! - Data and the end of the stream may come under one edge, of which a read that was asked for
//!   more takes the data alone: a short read proves nothing.
//! - Some old systems answer the addition of one end of a closed pipe with EPIPE: the filter is
//!   in place nevertheless, and will say what happened.
//! - Out-of-band data has a filter on macOS, OpenBSD and DragonFly (`EVFILT_EXCEPT`); elsewhere
//!   asking for it is `Unsupported`.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::{
    Backend, Event, Events, Interest, Mode, Notifier, Readiness, Registration, Selector,
    SystemCalls, Token, WaitEnd,
};

use super::fork::ForkGuard;
use super::kq::{self, Filter, Flags, Kevent};
use super::lost::LostDescriptor;
use super::table::{Closed, Table};
use super::wait::Wait;

/// Waits with kqueue(2).
#[derive(Debug)]
pub(super) struct KqueueSelector {
    /// Shared with the notifier, which triggers the user filter.
    kqueue: Arc<OwnedFd>,
    table: Table<Place>,
    /// What the kernel does not know yet.
    changes: Queue,
    /// What the kernel fills.
    buffer: Queue,
    /// The descriptors of the present batch, in the order in which they came.
    batch: Vec<RawFd>,
    closed: Closed,
    /// Whether somebody may be waiting for the kqueue's own descriptor.
    is_exposed: Cell<bool>,
    notifier: Notifier,
    fork: ForkGuard,
    calls: SystemCalls,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The filters that the kernel has, or will have once the changes are handed over.
    asked: Interest,
    /// The filters that fired in the present batch.
    fired: Interest,
    /// What they said.
    told: Readiness,
}

impl KqueueSelector {
    pub(super) fn new() -> io::Result<KqueueSelector> {
        let kqueue = Arc::new(kq::open()?);
        let alarm = change(ALARM, kq::EVFILT_USER, kq::EV_ADD | kq::EV_CLEAR, 0, ALARM_COOKIE);
        kq::kevent(&kqueue, &[alarm], &mut [], Some(Duration::ZERO))?;
        let trigger = Arc::clone(&kqueue);
        let notifier = Notifier::from_fn(move || {
            let raise = change(ALARM, kq::EVFILT_USER, 0, kq::NOTE_TRIGGER, ALARM_COOKIE);
            kq::kevent(&trigger, &[raise], &mut [], Some(Duration::ZERO))?;
            Ok(())
        });
        Ok(KqueueSelector {
            kqueue,
            table: Table::new(),
            changes: Queue(Vec::new()),
            buffer: Queue(Vec::new()),
            batch: Vec::new(),
            closed: Closed::default(),
            is_exposed: Cell::new(false),
            notifier,
            fork: ForkGuard::new(),
            calls: SystemCalls::default(),
        })
    }

    fn queue_add(&mut self, fd: RawFd, interest: Interest, mode: Mode, generation: u32) {
        let flags = kq::EV_ADD
            | match mode {
                Mode::Level => 0,
                Mode::OneShot => kq::EV_ONESHOT,
                Mode::Edge => kq::EV_CLEAR,
            };
        for (filter, fflags) in filters(interest) {
            self.changes.0.push(change(fd as usize, filter, flags, fflags, generation as usize));
        }
    }

    fn queue_delete(&mut self, fd: RawFd, interest: Interest) {
        for (filter, _) in filters(interest) {
            self.changes.0.push(change(fd as usize, filter, kq::EV_DELETE, 0, DELETION));
        }
    }

    /// Hands over all changes without waiting, and returns the first error among the last
    /// `n_own` of them. Errors of the others are kept for the next wait to report.
    fn submit(&mut self, n_own: usize) -> io::Result<()> {
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
                self.note_failure(&receipt);
            }
        }
        outcome
    }

    /// Keeps the failure of an addition for the next wait to report.
    fn note_failure(&mut self, receipt: &Kevent) {
        let fd = receipt.ident as RawFd;
        let generation = receipt.udata.addr() as u32;
        if let Some(entry) = self.table.get_mut(fd)
            && entry.generation == generation
            && entry.armed
            && failure(receipt).is_some()
        {
            let asked = std::mem::take(&mut entry.place.asked);
            self.queue_delete(fd, asked);
            self.closed.add(&mut self.table, fd);
        }
    }

    /// Turns the first `n_events` of the buffer into events, and reports whether there was a
    /// notification.
    fn collect(&mut self, n_events: usize, events: &mut Events) -> bool {
        let mut notified = false;
        for index in 0..n_events {
            let kevent = self.buffer.0[index];
            if kevent.flags & kq::EV_ERROR != 0 {
                self.note_failure(&kevent);
            } else if kevent.filter == kq::EVFILT_USER {
                notified |= self.notifier.acknowledge();
            } else {
                self.note_event(&kevent);
            }
        }
        for index in 0..self.batch.len() {
            self.report(self.batch[index], events);
        }
        self.batch.clear();
        notified
    }

    fn note_event(&mut self, kevent: &Kevent) {
        let fd = kevent.ident as RawFd;
        let generation = kevent.udata.addr() as u32;
        let entry = self.table.get_mut(fd).filter(|entry| entry.generation == generation);
        let Some(entry) = entry else { return };
        let (filter, told) = to_readiness(kevent);
        if entry.place.fired.is_empty() {
            self.batch.push(fd);
        }
        entry.place.fired |= filter;
        entry.place.told |= told;
    }

    fn report(&mut self, fd: RawFd, events: &mut Events) {
        let Some(entry) = self.table.get_mut(fd) else { return };
        let fired = std::mem::take(&mut entry.place.fired);
        let mut readiness = std::mem::take(&mut entry.place.told);
        if entry.interest.is_readable() && !readiness.is_read_closed() {
            readiness = readiness.without(Readiness::HANG_UP);
        }
        events.push(Event { token: entry.token, readiness });
        if entry.mode == Mode::OneShot {
            entry.armed = false;
            let twins = std::mem::take(&mut entry.place.asked).without(fired);
            self.queue_delete(fd, twins);
        }
    }

    /// Hands the queue over if somebody may be waiting for it to take effect.
    fn submit_if_exposed(&mut self) -> io::Result<()> {
        if self.is_exposed.get() { self.submit(0) } else { Ok(()) }
    }
}

impl Selector for KqueueSelector {
    fn backend(&self) -> Backend {
        Backend::Kqueue
    }

    fn supports(&self, _mode: Mode) -> bool {
        true
    }

    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        self.table.check_new(fd, interest)?;
        check_priority("register", fd, interest)?;
        let n_queued = self.changes.0.len();
        self.queue_add(fd, interest, mode, self.table.next_generation());
        if let Err(error) = self.submit(self.changes.0.len() - n_queued) {
            // One filter may have been accepted. If none was, deleting finds nothing to delete.
            self.queue_delete(fd, interest);
            self.submit(0)?;
            return Err(error);
        }
        let place = Place { asked: interest, ..Place::default() };
        self.table.insert(fd, token, interest, mode, place);
        Ok(())
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        check_priority("modify", fd, interest)?;
        let entry = self.table.find_to_modify(fd, interest)?;
        let asked = entry.place.asked;
        // A filter that goes on as it is need not be touched, but an edge is asked for again, so
        // that the present state is reported.
        let is_same = entry.mode == mode && mode != Mode::Edge;
        let kept = if is_same { asked.without(asked.without(interest)) } else { Interest::NONE };
        (entry.token, entry.interest, entry.mode, entry.armed) = (token, interest, mode, true);
        entry.place.asked = interest;
        let generation = entry.generation;
        self.queue_delete(fd, asked.without(kept));
        self.queue_add(fd, interest.without(kept), mode, generation);
        self.submit_if_exposed()
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        let entry = self.table.remove(fd)?;
        self.queue_delete(fd, entry.place.asked);
        if kq::is_deletion_urgent(fd) { self.submit(0) } else { self.submit_if_exposed() }
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.fork.check()?;
        events.clear();
        let mut wait = Wait::begin(timeout);
        loop {
            self.closed.report(&self.table, events);
            if events.is_full() {
                return Ok(());
            }
            if !events.is_empty() {
                wait.only_look();
            }
            // No more than fit: an edge that is taken from the kernel must be passed on. And no
            // fewer than changes, so that each error finds room.
            let n_max = (events.capacity() - events.len()).min(1 << 20);
            if self.changes.0.len() > n_max {
                self.submit(0)?;
                continue;
            }
            self.buffer.grow(n_max);
            self.calls.waits += 1;
            let buffer = &mut self.buffer.0[..n_max];
            let result = kq::kevent(&self.kqueue, &self.changes.0, buffer, wait.slice());
            // Made, even if a signal ended the wait.
            self.changes.0.clear();
            let result = result.map_err(|error| lost_or(error, &self.kqueue));
            let Some(n_events) = result? else {
                events.set_wait_end(WaitEnd::Signal);
                return Ok(());
            };
            let notified = self.collect(n_events, events);
            if notified {
                events.set_wait_end(WaitEnd::Notification);
            }
            if notified || !events.is_empty() {
                return Ok(());
            }
            // A batch of errors or stale events may hide an event, even when the time is over.
            if !wait.goes_on() && n_events == 0 {
                return Ok(());
            }
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.fork.check()?;
        Ok(self.notifier.clone())
    }

    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration> {
        self.table.registration(fd.as_raw_fd())
    }

    fn registrations(&self) -> Vec<Registration> {
        self.table.registrations()
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        if !kq::IS_POLLABLE {
            return None;
        }
        if !self.is_exposed.replace(true) && !self.changes.0.is_empty() {
            // What is queued takes effect in the turn that this brings about. If it fails, the
            // turn comes with the next event.
            let _ = self.notifier.notify();
        }
        Some(self.kqueue.as_fd())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

/// The identity of the user filter that ends a wait. Each filter has identities of its own.
const ALARM: usize = 0;

/// Belongs to no registration, like [`DELETION`].
const ALARM_COOKIE: usize = 0;

/// What a deletion carries in place of a generation; the table gives 0 to nobody.
const DELETION: usize = 0;

/// A list of `kevent`s. The pointers in them are numbers, so it may go to another thread.
#[derive(Debug)]
struct Queue(Vec<Kevent>);

// SAFETY: the only thing in a `kevent` that keeps it from being sent is the user data, in which
// this file stores numbers, never pointers.
unsafe impl Send for Queue {}

impl Queue {
    /// Makes sure that there are at least `length` items.
    fn grow(&mut self, length: usize) {
        if self.0.len() < length {
            self.0.resize(length, change(0, kq::EVFILT_READ, 0, 0, 0));
        }
    }
}

fn change(ident: usize, filter: Filter, flags: Flags, fflags: u32, cookie: usize) -> Kevent {
    // SAFETY: a `kevent` is plain integers and a pointer, for which zero is valid.
    let mut change: Kevent = unsafe { std::mem::zeroed() };
    change.ident = ident;
    change.filter = filter;
    change.flags = flags;
    change.fflags = fflags;
    change.udata = ptr::without_provenance_mut(cookie);
    change
}

/// Reports a kqueue that the program has closed as such.
#[cold]
fn lost_or(error: io::Error, kqueue: &OwnedFd) -> io::Error {
    if error.raw_os_error() == Some(libc::EBADF) {
        return LostDescriptor::closed(kqueue.as_raw_fd(), error);
    }
    error
}

/// Lists the filters that report an interest, with the flags they need.
fn filters(interest: Interest) -> impl Iterator<Item = (Filter, u32)> {
    let read = interest.is_readable().then_some((kq::EVFILT_READ, 0));
    let write = interest.is_writable().then_some((kq::EVFILT_WRITE, 0));
    let priority = if interest.is_priority() { kq::OUT_OF_BAND } else { None };
    [read, write, priority].into_iter().flatten()
}

/// Returns the error of a change, if it had one that matters.
fn failure(receipt: &Kevent) -> Option<io::Error> {
    let errno = receipt.data as i32;
    let is_failure = receipt.flags & kq::EV_ERROR != 0 && errno != 0 && errno != libc::EPIPE;
    is_failure.then(|| io::Error::from_raw_os_error(errno))
}

/// Returns which filter fired, as the interest that asked for it, and what it said.
fn to_readiness(kevent: &Kevent) -> (Interest, Readiness) {
    let is_eof = kevent.flags & kq::EV_EOF != 0;
    let (filter, mut told, end) = match kevent.filter {
        kq::EVFILT_READ => (Interest::READABLE, Readiness::READABLE, Readiness::READ_CLOSED),
        kq::EVFILT_WRITE => (Interest::WRITABLE, Readiness::WRITABLE, Readiness::HANG_UP),
        _ => (Interest::PRIORITY, Readiness::PRIORITY, Readiness::READ_CLOSED),
    };
    if is_eof {
        told |= end;
        // The socket's error, if it ended with one.
        if kevent.fflags != 0 {
            told |= Readiness::ERROR;
        }
    }
    (filter, told)
}

fn check_priority(call: &str, fd: RawFd, interest: Interest) -> io::Result<()> {
    if interest.is_priority() && kq::OUT_OF_BAND.is_none() {
        let message = format!("{call}: fd {fd}: this system's kqueue has no out-of-band filter");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    Ok(())
}
