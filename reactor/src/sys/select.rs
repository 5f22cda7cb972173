//! select(2): on every system, up to `FD_SETSIZE` descriptors.
//!
//! Quirks, each with its consequence below:
//! - `FD_SET` beyond `FD_SETSIZE` writes past the set: such a descriptor is refused before any
//!   bit is touched.
//! - One closed descriptor fails the whole call with EBADF, and the ready ones are not told: the
//!   closed ones are looked for, reported as invalid once and taken out, and the others are
//!   served in the same wait.
//! - The sets are overwritten: each wait works on a copy.
//! - There are three facts only. A hang-up is readable, an error readable and writable, and the
//!   exceptional set means out-of-band data: so that is all that is reported.
//! - A number that was closed and given to another file while registered is watched like its
//!   predecessor: nothing in the call could tell them apart.
//! - The order of the scan is ours: it begins where the last full batch ended.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;

use crate::{
    Backend, Event, Events, Interest, Mode, Notifier, PollableFd, Readiness, Registration,
    Selector, SystemCalls, Token, WaitEnd,
};

use super::cvt::{check_open, named};
use super::fork::ForkGuard;
use super::lost::LostDescriptor;
use super::os::{self, FdSetWord};
use super::table::{Closed, Table, check_no_edge};
use super::wait::Wait;
use super::wake::Alarm;

/// The number of descriptors that a set has room for: FD_SETSIZE, whose type differs.
const CAPACITY: usize = size_of::<libc::fd_set>() * 8;

/// Waits with select(2).
#[derive(Debug)]
pub(super) struct SelectSelector {
    table: Table<()>,
    /// What the kernel is asked: armed entries and the alarm.
    asked: Sets,
    /// Invariant: above every bit in `asked`.
    n_fds: usize,
    /// Where the next scan begins.
    cursor: usize,
    closed: Closed,
    alarm: OnceCell<Alarm>,
    /// Whether the alarm is in `asked`.
    is_alarm_asked: bool,
    fork: ForkGuard,
    calls: SystemCalls,
}

impl SelectSelector {
    pub(super) fn new() -> io::Result<SelectSelector> {
        Ok(SelectSelector {
            table: Table::new(),
            asked: Sets::default(),
            n_fds: 0,
            cursor: 0,
            closed: Closed::default(),
            alarm: OnceCell::new(),
            is_alarm_asked: false,
            fork: ForkGuard::new(),
            calls: SystemCalls::default(),
        })
    }

    /// Asks the kernel once: `Ok(None)` if a signal came, otherwise the sets and their bit count.
    fn ask(&mut self, timeout: Option<Duration>) -> io::Result<Option<(Sets, usize)>> {
        let mut found = self.asked.clone();
        self.calls.waits += 1;
        let sets = [
            found.read.as_mut_ptr_unless_empty(),
            found.write.as_mut_ptr_unless_empty(),
            found.except.as_mut_ptr_unless_empty(),
        ];
        // SAFETY: each set is null, or a local with the layout of `fd_set` (see `FdSet`), and `n_fds` is
        // at most FD_SETSIZE, since `check_range` let no larger number in.
        let result = unsafe { os::select(self.n_fds as libc::c_int, sets, timeout) }?;
        Ok(result.map(|n_bits| (found, n_bits)))
    }

    /// Turns bits into events, and reports whether there was a notification.
    fn collect(&mut self, mut found: Sets, n_bits: usize, events: &mut Events) -> io::Result<bool> {
        let mut n_left = n_bits;
        let mut notified = false;
        if let Some(alarm) = self.alarm.get()
            && n_left > 0
            && found.read.contains(alarm.fd() as usize)
        {
            found.read.remove(alarm.fd() as usize);
            n_left -= 1;
            notified = alarm.drain()?;
        }
        let begin = if self.cursor < self.n_fds { self.cursor } else { 0 };
        for range in [begin..self.n_fds, 0..begin] {
            let mut from = range.start;
            while n_left > 0
                && let Some(fd) = found.next(from, range.end)
            {
                if events.is_full() {
                    self.cursor = fd;
                    return Ok(notified);
                }
                let readiness = found.readiness(fd);
                n_left -= readiness.1;
                self.report(fd as RawFd, readiness.0, events);
                from = fd + 1;
            }
        }
        Ok(notified)
    }

    fn report(&mut self, fd: RawFd, readiness: Readiness, events: &mut Events) {
        let Some(entry) = self.table.get_mut(fd) else { return };
        events.push(Event { token: entry.token, readiness });
        if entry.mode == Mode::OneShot {
            entry.armed = false;
            self.asked.remove(fd as usize);
        }
    }

    /// Makes waits look at the alarm, once there is one.
    fn ask_for_alarm(&mut self) {
        if !self.is_alarm_asked
            && let Some(alarm) = self.alarm.get()
        {
            let fd = alarm.fd() as usize;
            self.asked.insert(fd, Interest::READABLE);
            self.n_fds = self.n_fds.max(fd + 1);
            self.is_alarm_asked = true;
        }
    }

    /// Explains EBADF where no registered descriptor is closed: the selector's own is.
    ///
    /// # Errors
    /// None if that is open as well: another thread has opened a file with the number that was closed.
    #[cold]
    fn check_alarm(&self, error: io::Error) -> io::Result<()> {
        match self.alarm.get() {
            Some(alarm) if check_open(alarm.fd()).is_err() => {
                Err(LostDescriptor::closed(alarm.fd(), error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the descriptors out that made the call fail. False if it was none of them.
    fn find_closed(&mut self) -> bool {
        let armed = self.table.iter().filter(|(_, entry)| entry.armed);
        let closed: Vec<RawFd> =
            armed.map(|(fd, _)| fd).filter(|&fd| check_open(fd).is_err()).collect();
        for &fd in &closed {
            self.asked.remove(fd as usize);
            self.closed.add(&mut self.table, fd);
        }
        !closed.is_empty()
    }
}

impl Selector for SelectSelector {
    fn backend(&self) -> Backend {
        Backend::Select
    }

    fn supports(&self, mode: Mode) -> bool {
        mode != Mode::Edge
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
        check_no_edge("register", "select", fd, mode)?;
        check_range("register", fd)?;
        self.table.check_new(fd, interest)?;
        self.calls.controls += 1;
        check_open(fd)?;
        self.table.insert(fd, token, interest, mode, ());
        self.asked.insert(fd as usize, interest);
        self.n_fds = self.n_fds.max(fd as usize + 1);
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
        check_no_edge("modify", "select", fd, mode)?;
        let entry = self.table.find_to_modify(fd, interest)?;
        (entry.token, entry.interest, entry.mode, entry.armed) = (token, interest, mode, true);
        self.asked.remove(fd as usize);
        self.asked.insert(fd as usize, interest);
        self.n_fds = self.n_fds.max(fd as usize + 1);
        Ok(())
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        self.table.remove(fd)?;
        self.asked.remove(fd as usize);
        Ok(())
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.fork.check()?;
        events.clear();
        self.ask_for_alarm();
        self.n_fds = self.asked.end(self.n_fds);
        let mut wait = Wait::begin(timeout);
        loop {
            self.closed.report(&self.table, events);
            if events.is_full() {
                return Ok(());
            }
            if !events.is_empty() {
                wait.only_look();
            }
            let (found, n_bits) = match self.ask(wait.slice()) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    events.set_wait_end(WaitEnd::Signal);
                    return Ok(());
                }
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
                    if !self.find_closed() {
                        self.check_alarm(error)?;
                    }
                    continue;
                }
                Err(error) => return Err(named("select")(error)),
            };
            let notified = self.collect(found, n_bits, events)?;
            if notified {
                events.set_wait_end(WaitEnd::Notification);
            }
            if notified || !events.is_empty() || !wait.goes_on() {
                return Ok(());
            }
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.fork.check()?;
        if self.alarm.get().is_none() {
            let alarm = Alarm::for_levels()?;
            check_range("notifier", alarm.fd())?;
            // The next wait puts it into the sets.
            let _ = self.alarm.set(alarm);
        }
        Ok(self.alarm.get().expect("it was made").notifier.clone())
    }

    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration> {
        self.table.registration(fd.as_raw_fd())
    }

    fn registrations(&self) -> Vec<Registration> {
        self.table.registrations()
    }

    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        // The next wait asks for it.
        let alarm = self.alarm.get().filter(|_| !self.is_alarm_asked).map(|alarm| alarm.fd());
        fds.extend(alarm.map(|fd| PollableFd { fd, interest: Interest::READABLE }));
        let mut from = 0;
        while let Some(fd) = self.asked.next(from, self.n_fds) {
            fds.push(PollableFd { fd: fd as RawFd, interest: self.asked.interest(fd) });
            from = fd + 1;
        }
        Ok(())
    }

    fn descriptor_limit(&self) -> Option<usize> {
        Some(CAPACITY)
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

fn check_range(call: &str, fd: RawFd) -> io::Result<()> {
    if fd as usize >= CAPACITY { Err(out_of_range(call, fd)) } else { Ok(()) }
}

#[cold]
fn out_of_range(call: &str, fd: RawFd) -> io::Error {
    let message = format!(
        "{call}: fd {fd} is beyond select's limit (FD_SETSIZE, {CAPACITY}): use another backend"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[derive(Clone, Debug, Default)]
struct Sets {
    read: FdSet,
    write: FdSet,
    except: FdSet,
}

impl Sets {
    fn insert(&mut self, fd: usize, interest: Interest) {
        if interest.is_readable() {
            self.read.insert(fd);
        }
        if interest.is_writable() {
            self.write.insert(fd);
        }
        if interest.is_priority() {
            self.except.insert(fd);
        }
    }

    fn remove(&mut self, fd: usize) {
        self.read.remove(fd);
        self.write.remove(fd);
        self.except.remove(fd);
    }

    fn interest(&self, fd: usize) -> Interest {
        let facts = [
            (&self.read, Interest::READABLE),
            (&self.write, Interest::WRITABLE),
            (&self.except, Interest::PRIORITY),
        ];
        let asked = facts.iter().filter(|(set, _)| set.contains(fd));
        asked.fold(Interest::NONE, |all, (_, interest)| all | *interest)
    }

    fn word(&self, index: usize) -> FdSetWord {
        self.read.0[index] | self.write.0[index] | self.except.0[index]
    }

    /// Finds the first descriptor in any set from `from` and before `end`.
    fn next(&self, from: usize, end: usize) -> Option<usize> {
        if from >= end {
            return None;
        }
        let mut index = from / WORD_BITS;
        let mut word = self.word(index) & (FdSetWord::MAX << (from % WORD_BITS));
        while word == 0 {
            index += 1;
            if index * WORD_BITS >= end {
                return None;
            }
            word = self.word(index);
        }
        let fd = index * WORD_BITS + word.trailing_zeros() as usize;
        (fd < end).then_some(fd)
    }

    /// Returns the number after the largest descriptor, which is below `bound`.
    fn end(&self, bound: usize) -> usize {
        let words = (0..bound.div_ceil(WORD_BITS)).rev();
        let last = words.map(|index| (index, self.word(index))).find(|(_, word)| *word != 0);
        last.map_or(0, |(index, word)| (index + 1) * WORD_BITS - word.leading_zeros() as usize)
    }

    /// Returns what the sets say of `fd`, and how many of them do.
    fn readiness(&self, fd: usize) -> (Readiness, usize) {
        let facts = [
            (&self.read, Readiness::READABLE),
            (&self.write, Readiness::WRITABLE),
            (&self.except, Readiness::PRIORITY),
        ];
        let mut readiness = Readiness::NONE;
        let mut n_sets = 0;
        for (_, fact) in facts.iter().filter(|(set, _)| set.contains(fd)) {
            readiness |= *fact;
            n_sets += 1;
        }
        (readiness, n_sets)
    }
}

const WORD_BITS: usize = FdSetWord::BITS as usize;

/// An `fd_set` whose words can be looked at.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct FdSet([FdSetWord; CAPACITY / WORD_BITS]);

const _: () = assert!(
    size_of::<FdSet>() == size_of::<libc::fd_set>()
        && align_of::<FdSet>() >= align_of::<libc::fd_set>()
);

impl FdSet {
    fn insert(&mut self, fd: usize) {
        self.0[fd / WORD_BITS] |= 1 << (fd % WORD_BITS);
    }

    fn remove(&mut self, fd: usize) {
        self.0[fd / WORD_BITS] &= !(1 << (fd % WORD_BITS));
    }

    fn contains(&self, fd: usize) -> bool {
        self.0[fd / WORD_BITS] >> (fd % WORD_BITS) & 1 == 1
    }

    fn as_mut_ptr(&mut self) -> *mut libc::fd_set {
        ptr::from_mut(self).cast()
    }

    /// A set that the kernel need not look through is none.
    fn as_mut_ptr_unless_empty(&mut self) -> *mut libc::fd_set {
        if self.0 == [0; _] { ptr::null_mut() } else { self.as_mut_ptr() }
    }
}

impl Default for FdSet {
    fn default() -> FdSet {
        FdSet([0; CAPACITY / WORD_BITS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_layout_of_the_system() {
        for fd in [0, 1, 31, 32, 63, 64, 65, 1_000, CAPACITY - 1] {
            let mut set = FdSet::default();
            set.insert(fd);
            // SAFETY: `set` has the size and alignment of an `fd_set`, and `fd` is within it.
            assert!(unsafe { libc::FD_ISSET(fd as libc::c_int, set.as_mut_ptr()) });
            set.remove(fd);
            assert_eq!(set.0, FdSet::default().0);
        }
    }

    #[test]
    fn next_finds_every_member_in_order() {
        let members = [0, 1, 63, 64, 127, 500, CAPACITY - 1];
        let mut sets = Sets::default();
        for fd in members {
            sets.insert(fd, Interest::WRITABLE);
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(fd) = sets.next(from, CAPACITY) {
            found.push(fd);
            from = fd + 1;
        }
        assert_eq!(found, members);
        assert_eq!(sets.next(2, 63), None);
        assert_eq!(sets.end(CAPACITY), CAPACITY);
        sets.remove(CAPACITY - 1);
        assert_eq!(sets.end(CAPACITY), 501);
        assert_eq!(Sets::default().end(CAPACITY), 0);
    }

    /// In a process of its own: a number that was closed by mistake may go to somebody else.
    #[test]
    #[cfg(feature = "conformance")]
    fn a_wait_without_its_own_descriptor_is_an_error_and_does_not_spin() {
        let code = crate::sys::testing::in_forked_child(|| {
            let mut selector = SelectSelector::new().unwrap();
            selector.notifier().unwrap();
            let fd = selector.alarm.get().unwrap().fd();
            // SAFETY: a number is closed that the selector owns. That is the mistake to be tested;
            // nobody else in this process opens anything.
            unsafe { libc::close(fd) };
            // Ends the process if the call below does not.
            // SAFETY: the call takes a number.
            unsafe { libc::alarm(10) };
            let mut events = Events::with_capacity(8);
            let result = selector.select(&mut events, Some(Duration::from_millis(1)));
            let is_error = result.is_err_and(|error| error.to_string().contains("closed"));
            std::mem::forget(selector);
            is_error
        });
        assert_eq!(code.unwrap(), 0);
    }
}
