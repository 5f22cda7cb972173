//! kqueue(2): macOS and the BSDs; on Linux through the library libkqueue, and in models for tests.
//!
//! - [`kernel`]: the seam to the system call; [`changes`]: lists of changes and events;
//!   [`answers`]: what the answer to an addition means; [`batch`]: from the events of a call to
//!   one report for each descriptor; [`lasting`]: conditions without a filter.
//! - [`model`]: kevent(2) as each system answers it, for tests on Linux.
//!
//! Quirks, each with its consequence below. What each system answers is in `docs/kqueue.md`.
//! - Reading and writing are two filters and are reported as two events: those of one wait are merged
//!   into one report for each descriptor.
//! - `EV_ONESHOT` disarms the filter that fired, not its twin: the twin is deleted with the next
//!   call, before it can report.
//! - A one-shot filter is not evaluated again when it is collected, except on macOS: it may report what
//!   a read has used up since.
//! - Changes can be submitted with the wait, in one call, and so are those of `modify` and
//!   `unregister`. Not those of `register`, which has to return whether the system accepts
//!   the descriptor: it submits its own and all that are queued, each with a receipt
//!   (`EV_RECEIPT`), since without receipts one error would hide the others.
//! - An error of a queued change is reported by the wait (`EV_ERROR`), which does not distinguish
//!   additions from deletions: deletions carry no generation, and their errors mean
//!   that what was to be deleted is gone. A failed addition is reported as invalid, once.
//! - A call that reports errors reports nothing else: the kernel is asked again in the same wait.
//! - DragonFly writes errors without looking whether there is room: there is room for one for each change.
//! - A queue that has not been submitted has no effect on a loop that watches this one through
//!   `pollable_fd`: after the first call of that, every change is submitted at once.
//! - Adding a filter anew does not change whether it is edge-triggered on every system: it is
//!   deleted first.
//! - Closing a descriptor removes its filters silently: it is not reported at all.
//! - `EV_EOF` on the read filter may come with data unread: both are reported. On the write filter it
//!   also means our own `shutdown`: it is a hang-up only if the read filter agrees or is absent.
//! - Data and the end of the stream may come under one edge, of which a read with room for
//!   more takes the data alone: a short read proves nothing.
//! - A pipe whose reader is gone refuses its filter for writing on FreeBSD and DragonFly (`EPIPE`) and
//!   NetBSD (`EBADF`): the selector reports the condition by itself, as the mode asks for.
//! - FreeBSD drops the filter if the reader leaves later, all systems that of a file that is revoked: an
//!   event with `EV_ONESHOT` that was not requested says so. The selector goes on as above.
//! - Out-of-band data has a filter on macOS, OpenBSD and DragonFly (`EVFILT_EXCEPT`); elsewhere
//!   requesting it is `Unsupported`. What is no socket refuses the filter, and there is nothing to report.
//! - On macOS that filter is the one for reading: it is edge-triggered in every mode, events without
//!   the mark are skipped, and it is added again for as long as a level lasts.
//! - NetBSD stops if a kqueue watches itself: that is refused.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::lost::LostDescriptor;
use super::mechanism::{Mechanism, Outcome};
use super::table::{Entry, Table};
use crate::sys::cvt::{explain, named};
use crate::sys::kq::{self, Kevent};
use crate::{Backend, Events, Interest, Mode, Notifier, Readiness, SystemCalls};

use answers::{Answer, Answers};
use changes::{Changes, change, interest_of};
use kernel::Kernel;
use lasting::Lasting;

pub(in crate::sys) mod kernel;

mod changes;

mod answers;

mod batch;

mod lasting;

#[cfg(all(feature = "kqueue-model", any(target_os = "linux", target_os = "android")))]
pub(crate) mod model;

/// Waits with kqueue(2).
#[derive(Debug)]
pub(super) struct Kqueue<K> {
    /// Shared with the notifier, which triggers the user filter.
    kqueue: Arc<K>,
    /// What the kernel does not know yet.
    changes: Changes,
    /// What the kernel fills.
    buffer: Changes,
    /// The descriptors of the present batch, in the order in which they were reported.
    batch: Vec<RawFd>,
    /// The descriptors with a filter that could not be added, until those that could are deleted.
    failed: Vec<RawFd>,
    lasting: Lasting,
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
    /// The filters that the kernel has not, whose condition lasts: the selector reports it.
    lasting: Interest,
    /// The filters of the present batch that could not be added.
    failed: Interest,
    /// The filters that fired in the present batch.
    fired: Interest,
    /// What they reported.
    reported: Readiness,
}

impl<K: Kernel> Mechanism for Kqueue<K> {
    const BACKEND: Backend = Backend::Kqueue;
    const HAS_EDGES: bool = true;

    type Place = Place;

    fn open() -> io::Result<Kqueue<K>> {
        let kqueue = Arc::new(K::open()?);
        let flags = kq::EV_ADD | kq::EV_CLEAR;
        let wake_up = change(WAKE_UP, kq::EVFILT_USER, flags, 0, WAKE_UP_COOKIE);
        // Room for the error.
        let mut events = [wake_up];
        let result = kqueue.kevent(&[wake_up], &mut events, Some(Duration::ZERO))?;
        if result == Some(1) {
            let error = io::Error::from_raw_os_error(events[0].data as i32);
            return Err(no_user_filter(error));
        }
        let trigger = Arc::clone(&kqueue);
        let notifier = Notifier::from_fn(move || raise(&*trigger));
        Ok(Kqueue {
            kqueue,
            changes: Changes::default(),
            buffer: Changes::default(),
            batch: Vec::new(),
            failed: Vec::new(),
            lasting: Lasting::default(),
            is_exposed: Cell::new(false),
            is_urgent: false,
            notifier,
            calls: SystemCalls::default(),
        })
    }

    fn check(call: &str, fd: RawFd, interest: Interest) -> io::Result<()> {
        if interest.is_priority() && K::OUT_OF_BAND.is_none() {
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
        if fd == self.kqueue.as_fd().as_raw_fd() {
            let message = format!("register: fd {fd} is the kqueue itself");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let generation = table.next_generation();
        self.changes.add::<K>(fd, interest, mode, generation);
        let answers = self.submit(table, generation)?;
        let requested = interest.without(answers.not_added);
        if let Some(error) = answers.error {
            self.changes.delete::<K>(fd, requested);
            self.submit(table, NO_GENERATION)?;
            return Err(error);
        }
        if !answers.lasting.is_empty() {
            self.lasting.push(fd, generation);
            self.keep_readable();
        }
        Ok(Place { requested, lasting: answers.lasting, ..Place::default() })
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
        entry.place.lasting = Interest::NONE;
        self.changes.delete::<K>(fd, former.without(kept));
        self.changes.add::<K>(fd, interest.without(kept), mode, entry.generation);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, _: &mut Table<Place>, fd: RawFd, entry: Entry<Place>) -> io::Result<()> {
        self.changes.delete::<K>(fd, entry.place.requested);
        self.is_urgent = K::is_deletion_urgent(fd);
        Ok(())
    }

    #[inline]
    fn commit(&mut self, table: &mut Table<Place>) -> io::Result<()> {
        let is_urgent = std::mem::take(&mut self.is_urgent);
        if is_urgent || self.is_exposed.get() {
            self.submit(table, NO_GENERATION)?;
        }
        Ok(())
    }

    #[inline]
    fn wait(
        &mut self,
        table: &mut Table<Place>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome> {
        if !self.lasting.is_empty() {
            self.lasting.prune(table);
        }
        // No more than fit, since an edge that is taken from the kernel must be reported, and no
        // fewer than changes, so that there is room for each error.
        let room = (events.capacity() - events.len()).min(1 << 20);
        let n_max = room - self.lasting.share(room);
        if self.changes.0.len() > n_max {
            self.submit(table, NO_GENERATION)?;
            return Ok(Outcome::Again);
        }
        let timeout = if self.lasting.is_empty() { timeout } else { Some(Duration::ZERO) };
        let mut n_events = 0;
        if n_max > 0 {
            self.buffer.grow(n_max);
            self.calls.waits += 1;
            let buffer = &mut self.buffer.0[..n_max];
            let result = self.kqueue.kevent(&self.changes.0, buffer, timeout);
            // Made, even if a signal ended the wait.
            self.changes.0.clear();
            match result.map_err(|error| lost_or(error, self.kqueue.as_fd()))? {
                Some(n) => n_events = n,
                None => return Ok(Outcome::Interrupted),
            }
        }
        self.collect(table, n_events, room, events)
    }

    fn notifier(&self) -> io::Result<Notifier> {
        Ok(self.notifier.clone())
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        if !K::IS_POLLABLE {
            return None;
        }
        let has_more = !self.changes.0.is_empty() || !self.lasting.is_empty();
        if !self.is_exposed.replace(true) && has_more {
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

impl<K: Kernel> Kqueue<K> {
    /// Submits all changes without waiting, and returns the answers to the additions of the registration
    /// that `own` is the generation of. Errors of the others are kept for the next wait to report.
    fn submit(&mut self, table: &mut Table<Place>, own: u32) -> io::Result<Answers> {
        let mut answers = Answers::default();
        for change in &mut self.changes.0 {
            change.flags |= kq::EV_RECEIPT;
        }
        let n_changes = self.changes.0.len();
        if n_changes == 0 {
            return Ok(answers);
        }
        self.buffer.grow(n_changes);
        self.calls.controls += 1;
        let receipts = &mut self.buffer.0[..n_changes];
        let result = self.kqueue.kevent(&self.changes.0, receipts, Some(Duration::ZERO));
        self.changes.0.clear();
        // A signal cannot end a call that does not wait; if it did, the changes were made.
        let n_receipts = result?.unwrap_or(0);
        for index in 0..n_receipts {
            let receipt = self.buffer.0[index];
            if receipt.udata.addr() == own as usize && own != NO_GENERATION {
                answers.note(&receipt);
            } else {
                self.note_answer(table, &receipt);
            }
        }
        self.give_up_failed(table);
        self.keep_readable();
        Ok(answers)
    }

    /// Notes the answer to a queued change.
    fn note_answer(&mut self, table: &mut Table<Place>, receipt: &Kevent) {
        let fd = receipt.ident as RawFd;
        let generation = receipt.udata.addr() as u32;
        let entry = table.get_mut(fd).filter(|entry| entry.generation == generation && entry.armed);
        let Some(entry) = entry else { return };
        let filter = interest_of(receipt.filter);
        let place = &mut entry.place;
        if !place.requested.contains(filter) {
            // A later change has replaced this one.
            return;
        }
        match Answer::of(receipt) {
            Answer::Accepted => return,
            Answer::Mute => {}
            Answer::Lasting => {
                place.lasting |= filter;
                self.lasting.push(fd, generation);
            }
            Answer::Failed(_) => {
                if place.failed.is_empty() {
                    self.failed.push(fd);
                }
                place.failed |= filter;
            }
        }
        place.requested = place.requested.without(filter);
    }

    /// Deletes the filters that were added beside one that failed, and keeps the failure for the next
    /// wait to report.
    fn give_up_failed(&mut self, table: &mut Table<Place>) {
        for fd in self.failed.drain(..) {
            let Some(entry) = table.get_mut(fd) else { continue };
            let Place { requested, .. } = std::mem::take(&mut entry.place);
            self.changes.delete::<K>(fd, requested);
            table.mark_closed(fd);
        }
    }

    /// Makes the kqueue readable for a loop that watches it, if there is something to report that the
    /// kernel has no filter for.
    fn keep_readable(&self) {
        if self.is_exposed.get() && !self.lasting.is_empty() {
            // If it fails, the next event brings the turn about.
            let _ = raise(&*self.kqueue);
        }
    }
}

/// Ends a wait, or makes the next one end at once.
fn raise<K: Kernel>(kqueue: &K) -> io::Result<()> {
    let raise = change(WAKE_UP, kq::EVFILT_USER, 0, kq::NOTE_TRIGGER, WAKE_UP_COOKIE);
    kqueue.kevent(&[raise], &mut [], Some(Duration::ZERO))?;
    Ok(())
}

/// What is no registration's generation.
const NO_GENERATION: u32 = 0;

/// The identity of the user filter that ends a wait. Each filter has its own identities.
const WAKE_UP: usize = 0;

/// Belongs to no registration, like [`changes::DELETION`].
const WAKE_UP_COOKIE: usize = 0;

/// Explains the error of a wait if the program has closed the kqueue.
#[cold]
fn lost_or(error: io::Error, kqueue: BorrowedFd<'_>) -> io::Error {
    if error.raw_os_error() == Some(libc::EBADF) {
        return LostDescriptor::closed(kqueue.as_raw_fd(), error);
    }
    error
}

/// Explains why a kqueue cannot be opened where user events came late.
#[cold]
fn no_user_filter(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EINVAL) => {
            let message =
                "kqueue: EVFILT_USER is missing: OpenBSD has it since 7.8, NetBSD since 10";
            io::Error::new(io::ErrorKind::Unsupported, message)
        }
        // OpenBSD.
        Some(libc::ENOMEM) => {
            let sentence = "kqueue: too many user events and timers in this process".to_owned();
            explain(error, sentence)
        }
        _ => named("kevent")(error),
    }
}
