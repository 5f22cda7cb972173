//! Conditions that last although the kernel has no filter for them.
//!
//! A pipe whose reader is gone stays so, but FreeBSD, NetBSD and DragonFly refuse its filter for
//! writing, and FreeBSD drops the filter that was there. Terminals and revoked files drop theirs, too.
//! The selector reports such a condition without the kernel: in each wait in level-triggered mode, once in
//! the others.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::Place;
use crate::sys::selectors::table::Table;
use crate::sys::stat::FileId;
use crate::{Interest, Readiness};

/// The descriptors with such a condition, the next one to report first. [`Place`] has the filters.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    queue: VecDeque<Condition>,
    /// Whether the last wait with room for one event was kept from the kernel.
    is_next: bool,
}

#[derive(Clone, Copy, Debug)]
struct Condition {
    fd: RawFd,
    generation: u32,
    /// The file when the condition was found. A closed descriptor is dropped, as the kernel drops its filters.
    file: FileId,
}

impl Lasting {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a descriptor.
    pub(super) fn push(&mut self, fd: RawFd, generation: u32) {
        if let Ok(file) = FileId::of(fd) {
            self.queue.retain(|condition| condition.fd != fd);
            self.queue.push_back(Condition { fd, generation, file });
        }
    }

    /// Drops descriptors that were closed, disarmed, modified or unregistered.
    pub(super) fn prune(&mut self, table: &Table<Place>) {
        self.queue.retain(|&Condition { fd, generation, file }| {
            let entry = table.get(fd).filter(|entry| entry.generation == generation);
            entry.is_some_and(|entry| entry.armed && !entry.place.lasting.is_empty())
                && FileId::of(fd).is_ok_and(|present| present == file)
        });
    }

    /// Returns how much of the room of a wait is kept from the kernel: at most half, or all of it in every
    /// other wait with room for one event.
    pub(super) fn share(&mut self, room: usize) -> usize {
        if self.is_empty() {
            return 0;
        }
        if room > 1 {
            return self.queue.len().min(room / 2);
        }
        self.is_next = !self.is_next;
        usize::from(self.is_next)
    }

    /// Returns the next descriptor to report, and moves it to the end of the queue.
    pub(super) fn next(&mut self) -> Option<RawFd> {
        let condition = self.queue.pop_front()?;
        self.queue.push_back(condition);
        Some(condition.fd)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Returns what is reported in place of `filters`.
pub(super) fn readiness_of(filters: Interest) -> Readiness {
    let mut readiness = Readiness::NONE;
    if filters.is_readable() {
        readiness |= Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if filters.is_writable() {
        readiness |= Readiness::WRITABLE | Readiness::HANG_UP;
    }
    readiness
}
