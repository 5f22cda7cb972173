//! What one call has returned, turned into one report for each descriptor.

use std::io;
use std::os::fd::RawFd;

use super::changes::{self, interest_of};
use super::kernel::Kernel;
use super::{Kqueue, NO_GENERATION, Place, lasting};
use crate::sys::kq::{self, Kevent};
use crate::sys::selectors::mechanism::Outcome;
use crate::sys::selectors::table::Table;
use crate::{Event, Events, Interest, Mode, Readiness};

impl<K: Kernel> Kqueue<K> {
    /// Turns the first `n_events` of the buffer, and what lasts, into at most `room` events.
    pub(super) fn collect(
        &mut self,
        table: &mut Table<Place>,
        n_events: usize,
        room: usize,
        events: &mut Events,
    ) -> io::Result<Outcome> {
        let (mut is_notified, mut has_errors) = (false, false);
        for index in 0..n_events {
            let kevent = self.buffer.0[index];
            if kevent.flags & kq::EV_ERROR != 0 {
                has_errors = true;
                self.note_answer(table, &kevent);
            } else if kevent.filter == kq::EVFILT_USER {
                is_notified |= self.notifier.acknowledge();
            } else {
                self.note_event(table, &kevent);
            }
        }
        self.give_up_failed(table);
        if !has_errors {
            self.note_lasting(table, room);
        }
        let mut has_touched = false;
        for index in 0..self.batch.len() {
            has_touched |= self.report(table, self.batch[index], events);
        }
        self.batch.clear();
        if has_touched && self.is_exposed.get() {
            self.submit(table, NO_GENERATION)?;
        }
        if self.is_exposed.get() {
            self.lasting.prune(table);
            self.keep_readable();
        }
        Ok(if is_notified {
            Outcome::Notified
        } else if has_errors || (events.is_empty() && n_events > 0) {
            // What is ready is hidden by errors, or by stale events.
            Outcome::Again
        } else {
            Outcome::Complete
        })
    }

    fn note_event(&mut self, table: &mut Table<Place>, kevent: &Kevent) {
        let fd = kevent.ident as RawFd;
        let generation = kevent.udata.addr() as u32;
        let entry = table.get_mut(fd).filter(|entry| entry.generation == generation);
        let Some(entry) = entry else { return };
        let Some(reported) = changes::to_readiness::<K>(kevent) else { return };
        let filter = interest_of(kevent.filter);
        let place = &mut entry.place;
        if place.fired.is_empty() {
            self.batch.push(fd);
        }
        place.fired |= filter;
        place.reported |= reported;
        if kevent.flags & kq::EV_ONESHOT != 0 && entry.mode != Mode::OneShot {
            // The kernel has dropped the filter.
            place.requested = place.requested.without(filter);
            if entry.mode == Mode::Level {
                place.lasting |= filter;
                self.lasting.push(fd, generation);
            }
        }
    }

    /// Adds what lasts to the batch, as far as there is room.
    fn note_lasting(&mut self, table: &mut Table<Place>, room: usize) {
        for _ in 0..self.lasting.len() {
            if self.batch.len() >= room {
                return;
            }
            let Some(fd) = self.lasting.next() else { return };
            let Some(entry) = table.get_mut(fd) else { continue };
            let place = &mut entry.place;
            if place.fired.is_empty() {
                self.batch.push(fd);
            }
            place.fired |= place.lasting;
            place.reported |= lasting::readiness_of(place.lasting);
        }
    }

    /// Reports one descriptor of the batch. Returns whether a filter has to be added again for what may
    /// last.
    fn report(&mut self, table: &mut Table<Place>, fd: RawFd, events: &mut Events) -> bool {
        let Some(entry) = table.get_mut(fd) else { return false };
        let place = &mut entry.place;
        let mut fired = std::mem::take(&mut place.fired);
        let mut readiness = std::mem::take(&mut place.reported);
        // It is known which end of a pipe is gone.
        if entry.interest.is_readable() && !readiness.is_read_closed() && place.lasting.is_empty() {
            readiness = readiness.without(Readiness::HANG_UP);
        }
        events.push(Event { token: entry.token, readiness });
        if entry.mode != Mode::Level {
            place.lasting = Interest::NONE;
        }
        let is_edge_only = K::OUT_OF_BAND.is_some_and(|filter| filter.low_water.is_some());
        let is_marked = is_edge_only && fired.is_priority();
        if entry.mode == Mode::OneShot {
            entry.armed = false;
            if is_marked {
                fired = fired.without(Interest::PRIORITY);
            }
            let twins = std::mem::take(&mut place.requested).without(fired);
            self.changes.delete::<K>(fd, twins);
        } else if is_marked && entry.mode == Mode::Level {
            self.changes.add::<K>(fd, Interest::PRIORITY, entry.mode, entry.generation);
            return true;
        }
        false
    }
}
