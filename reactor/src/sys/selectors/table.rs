//! The registration table: from a descriptor's number to its entry.
//!
//! Descriptors are small numbers, and the system hands out the lowest free one, so a vector indexed by
//! them is the fastest map and no longer than the largest number in use. The errors of the contract
//! about registration are made here.

use std::io;
use std::os::fd::RawFd;

use crate::{Event, Events, Interest, Mode, Readiness, Registration, Token};

/// The registered descriptors of one selector. `P` is the mechanism's own part of an entry.
#[derive(Debug)]
pub(super) struct Table<P> {
    /// Invariant: `entries[fd]` is the entry of `fd`; the vector ends at the largest so far.
    entries: Vec<Option<Entry<P>>>,
    /// Invariant: the number of entries that are `Some`.
    n_registered: usize,
    /// The generation of the latest registration. No registration has 0.
    generation: u32,
    /// The descriptors that were found closed and are still to be reported, with the generations of
    /// their registrations.
    closed: Vec<(RawFd, u32)>,
}

/// One registered descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<P> {
    pub(super) token: Token,
    pub(super) interest: Interest,
    pub(super) mode: Mode,
    /// Whether the kernel is asked about it. Not if it is a one-shot that fired, or was found closed.
    pub(super) armed: bool,
    /// Distinguishes this registration from earlier ones of the same number.
    pub(super) generation: u32,
    /// The mechanism's own part.
    pub(super) place: P,
}

impl<P> Table<P> {
    pub(super) fn new() -> Table<P> {
        Table { entries: Vec::new(), n_registered: 0, generation: 0, closed: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.n_registered
    }

    /// Checks that `fd` is not registered and that `interest` is not empty.
    pub(super) fn check_new(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        check_interest("register", fd, interest)?;
        if self.get(fd).is_some() { Err(already_registered(fd)) } else { Ok(()) }
    }

    /// Returns the generation that the next [`insert`](Table::insert) gives.
    pub(super) fn next_generation(&self) -> u32 {
        match self.generation.wrapping_add(1) {
            0 => 1,
            generation => generation,
        }
    }

    /// Adds an entry. Call [`check_new`](Table::check_new) first.
    pub(super) fn insert(
        &mut self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        mode: Mode,
        place: P,
    ) -> &mut Entry<P> {
        self.generation = self.next_generation();
        // Not negative: a `BorrowedFd` never is.
        let index = fd as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        debug_assert!(self.entries[index].is_none(), "insert without check_new");
        self.n_registered += 1;
        let generation = self.generation;
        self.entries[index].insert(Entry { token, interest, mode, armed: true, generation, place })
    }

    pub(super) fn get(&self, fd: RawFd) -> Option<&Entry<P>> {
        self.entries.get(fd as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, fd: RawFd) -> Option<&mut Entry<P>> {
        self.entries.get_mut(fd as usize)?.as_mut()
    }

    /// Finds the entry to modify, and checks that `interest` is not empty.
    pub(super) fn find_to_modify(
        &mut self,
        fd: RawFd,
        interest: Interest,
    ) -> io::Result<&mut Entry<P>> {
        check_interest("modify", fd, interest)?;
        self.get_mut(fd).ok_or_else(|| not_registered("modify", fd))
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, fd: RawFd) -> io::Result<Entry<P>> {
        let slot = self.entries.get_mut(fd as usize);
        let entry = slot.and_then(Option::take).ok_or_else(|| not_registered("unregister", fd))?;
        self.n_registered -= 1;
        Ok(entry)
    }

    pub(super) fn registration(&self, fd: RawFd) -> Option<Registration> {
        self.get(fd).map(|entry| entry.registration(fd))
    }

    pub(super) fn registrations(&self) -> Vec<Registration> {
        self.iter().map(|(fd, entry)| entry.registration(fd)).collect()
    }

    /// Disarms `fd`, which was found closed, to be reported as invalid once.
    pub(super) fn mark_closed(&mut self, fd: RawFd) {
        if let Some(entry) = self.get_mut(fd) {
            entry.armed = false;
            let generation = entry.generation;
            self.closed.push((fd, generation));
        }
    }

    /// Returns whether [`report_closed`](Table::report_closed) has something to report.
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Reports closed descriptors as far as they fit, except those that were unregistered or modified
    /// in the meantime.
    #[cold]
    pub(super) fn report_closed(&mut self, events: &mut Events) {
        while !events.is_full()
            && let Some((fd, generation)) = self.closed.pop()
        {
            let entry = self.get(fd).filter(|entry| entry.generation == generation);
            if let Some(entry) = entry.filter(|entry| !entry.armed) {
                events.push(Event { token: entry.token, readiness: Readiness::INVALID });
            }
        }
    }

    /// Iterates in the order of the descriptors' numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (RawFd, &Entry<P>)> {
        // The index came from a descriptor and fits one.
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(index, entry)| Some((index as RawFd, entry.as_ref()?)))
    }
}

impl<P> Entry<P> {
    fn registration(&self, fd: RawFd) -> Registration {
        Registration { fd, token: self.token, interest: self.interest, mode: self.mode }
    }
}

fn check_interest(call: &str, fd: RawFd, interest: Interest) -> io::Result<()> {
    if interest.is_empty() { Err(no_interest(call, fd)) } else { Ok(()) }
}

#[cold]
fn no_interest(call: &str, fd: RawFd) -> io::Error {
    let message = format!("{call}: fd {fd}: the interest is empty");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cold]
fn already_registered(fd: RawFd) -> io::Error {
    let message = format!("register: fd {fd} is already registered");
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

#[cold]
fn not_registered(call: &str, fd: RawFd) -> io::Error {
    let message = format!("{call}: fd {fd} is not registered");
    io::Error::new(io::ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(table: &mut Table<()>, fd: RawFd) -> u32 {
        table.check_new(fd, Interest::READABLE).unwrap();
        table.insert(fd, Token::from_raw(1), Interest::READABLE, Mode::Level, ()).generation
    }

    #[test]
    fn a_number_registered_again_has_another_generation() {
        let mut table = Table::new();
        let first = insert(&mut table, 5);
        table.remove(5).unwrap();
        assert_ne!(insert(&mut table, 5), first);
    }

    #[test]
    fn no_registration_has_generation_zero() {
        let mut table = Table::new();
        table.generation = u32::MAX;
        assert_eq!(insert(&mut table, 0), 1);
    }

    #[test]
    fn errors_name_the_call_and_the_descriptor() {
        let mut table = Table::new();
        insert(&mut table, 5);
        let error = table.check_new(5, Interest::READABLE).unwrap_err();
        assert_eq!(error.to_string(), "register: fd 5 is already registered");
        let error = table.check_new(6, Interest::NONE).unwrap_err();
        assert_eq!(error.to_string(), "register: fd 6: the interest is empty");
        let error = table.find_to_modify(6, Interest::READABLE).unwrap_err();
        assert_eq!(error.to_string(), "modify: fd 6 is not registered");
        let error = table.remove(6).unwrap_err();
        assert_eq!(error.to_string(), "unregister: fd 6 is not registered");
    }

    #[test]
    fn the_count_and_the_list_follow() {
        let mut table = Table::new();
        for fd in [9, 3, 700] {
            insert(&mut table, fd);
        }
        table.remove(3).unwrap();
        let fds: Vec<RawFd> = table.registrations().iter().map(|entry| entry.fd).collect();
        assert_eq!((table.len(), fds), (2, vec![9, 700]));
    }
}
