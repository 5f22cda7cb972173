//! poll(2): on every system, any number of descriptors, each looked at in each wait.
//!
//! Quirks, each with its consequence below:
//! - A negative descriptor is skipped: that is how a one-shot that fired is kept out without
//!   moving the array. Its number `fd` is stored as `!fd`, so that 0 has a negative twin too.
//! - POLLERR, POLLHUP and POLLNVAL are told without being asked for.
//! - A closed descriptor is POLLNVAL in every wait: reported as invalid once, then skipped. The
//!   others are served in the same call.
//! - More entries than RLIMIT_NOFILE is EINVAL, and the limit may be lowered at run time: a clear
//!   error, and nothing is lost.
//! - POLLRDHUP is asked for with reading only: for a writer alone a half-closed peer would be
//!   reported in every wait, with nothing that a write could do about it.
//! - The order of the scan is ours: it begins where the last full batch ended.
//! - macOS waits in milliseconds, and its poll does not work on devices such as terminals.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use libc::{c_short, pollfd};

use crate::{
    Backend, Event, Events, Interest, Mode, Notifier, PollableFd, Readiness, Registration,
    Selector, SystemCalls, Token, WaitEnd,
};

use super::cvt::{check_open, explain, named};
use super::fork::ForkGuard;
use super::os::{self, POLL_READ_CLOSED};
use super::table::{Table, check_no_edge};
use super::wait::Wait;
use super::wake::Alarm;

/// Waits with poll(2).
#[derive(Debug)]
pub(super) struct PollSelector {
    /// The place is the position in `fds`.
    table: Table<u32>,
    /// Invariant: the alarm, or an item that poll skips, then one item for each entry of the table, in no order.
    fds: Vec<Item>,
    /// Where the next scan begins.
    cursor: usize,
    alarm: OnceCell<Alarm>,
    fork: ForkGuard,
    calls: SystemCalls,
}

/// The position of the alarm.
const ALARM: usize = 0;

impl PollSelector {
    pub(super) fn new() -> io::Result<PollSelector> {
        Ok(PollSelector {
            table: Table::new(),
            fds: vec![Item::new(-1, Interest::READABLE)],
            cursor: ALARM + 1,
            alarm: OnceCell::new(),
            fork: ForkGuard::new(),
            calls: SystemCalls::default(),
        })
    }

    /// Asks the kernel once: `Ok(None)` if a signal came, otherwise how many items say something.
    fn ask(&mut self, timeout: Option<Duration>) -> io::Result<Option<usize>> {
        self.calls.waits += 1;
        os::poll(Item::as_pollfds(&mut self.fds), timeout).map_err(|error| {
            if error.raw_os_error() == Some(libc::EINVAL) {
                self.too_many(error)
            } else {
                named("poll")(error)
            }
        })
    }

    #[cold]
    fn too_many(&self, error: io::Error) -> io::Error {
        let sentence = format!(
            "poll: too many descriptors: {} are more than the limit on open files (RLIMIT_NOFILE)",
            self.fds.len()
        );
        explain(error, sentence)
    }

    /// Turns what the items say into events, and reports whether there was a notification.
    fn collect(&mut self, n_items: usize, events: &mut Events) -> io::Result<bool> {
        let mut n_left = n_items;
        let mut notified = false;
        if n_left > 0
            && self.fds[ALARM].0.revents != 0
            && let Some(alarm) = self.alarm.get()
        {
            n_left -= 1;
            notified = alarm.drain()?;
        }
        let end = self.fds.len();
        let begin = if self.cursor < end { self.cursor } else { ALARM + 1 };
        for range in [begin..end, ALARM + 1..begin] {
            for index in range {
                if n_left == 0 {
                    return Ok(notified);
                }
                let item = &mut self.fds[index];
                if item.0.revents == 0 {
                    continue;
                }
                if events.is_full() {
                    self.cursor = index;
                    return Ok(notified);
                }
                n_left -= 1;
                let readiness = to_readiness(item.0.revents);
                let Some(entry) = self.table.get_mut(item.0.fd) else { continue };
                events.push(Event { token: entry.token, readiness });
                if entry.mode == Mode::OneShot || readiness.is_invalid() {
                    entry.armed = false;
                    item.disarm();
                }
            }
        }
        Ok(notified)
    }
}

impl Selector for PollSelector {
    fn backend(&self) -> Backend {
        Backend::Poll
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
        check_no_edge("register", "poll", fd, mode)?;
        self.table.check_new(fd, interest)?;
        self.calls.controls += 1;
        check_open(fd)?;
        // Fits: there are no more items than descriptors.
        let place = self.fds.len() as u32;
        self.table.insert(fd, token, interest, mode, place);
        self.fds.push(Item::new(fd, interest));
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
        check_no_edge("modify", "poll", fd, mode)?;
        let entry = self.table.find_to_modify(fd, interest)?;
        (entry.token, entry.interest, entry.mode, entry.armed) = (token, interest, mode, true);
        self.fds[entry.place as usize] = Item::new(fd, interest);
        Ok(())
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.fork.check()?;
        let place = self.table.remove(fd.as_raw_fd())?.place;
        self.fds.swap_remove(place as usize);
        // The last item is in this place now, unless it was the one that left.
        if let Some(moved) = self.fds.get(place as usize)
            && let Some(entry) = self.table.get_mut(moved.fd())
        {
            entry.place = place;
        }
        Ok(())
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.fork.check()?;
        debug_assert_eq!(self.fds.len(), self.table.len() + 1);
        events.clear();
        if self.fds[ALARM].0.fd < 0
            && let Some(alarm) = self.alarm.get()
        {
            self.fds[ALARM] = Item::new(alarm.fd(), Interest::READABLE);
        }
        let mut wait = Wait::begin(timeout);
        loop {
            let Some(n_items) = self.ask(wait.slice())? else {
                events.set_wait_end(WaitEnd::Signal);
                return Ok(());
            };
            let notified = self.collect(n_items, events)?;
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
            // The next wait puts it into the array.
            let _ = self.alarm.set(Alarm::for_levels()?);
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
        // The next wait puts it into the array.
        let alarm = self.alarm.get().map(|alarm| alarm.fd());
        fds.extend(alarm.map(|fd| PollableFd { fd, interest: Interest::READABLE }));
        // What is disarmed is not asked for.
        let armed = self.fds[ALARM + 1..].iter().filter(|item| item.0.fd >= 0);
        fds.extend(armed.map(|item| PollableFd { fd: item.0.fd, interest: item.interest() }));
        Ok(())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

/// A `pollfd` with names for its negative form.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Item(pollfd);

impl Item {
    fn new(fd: RawFd, interest: Interest) -> Item {
        Item(pollfd { fd, events: to_mask(interest), revents: 0 })
    }

    /// Makes poll skip the item.
    fn disarm(&mut self) {
        debug_assert!(self.0.fd >= 0, "disarmed twice");
        self.0.fd = !self.0.fd;
    }

    /// Returns the descriptor, armed or not.
    fn fd(&self) -> RawFd {
        if self.0.fd < 0 { !self.0.fd } else { self.0.fd }
    }

    fn interest(&self) -> Interest {
        let facts = [
            (libc::POLLIN, Interest::READABLE),
            (libc::POLLOUT, Interest::WRITABLE),
            (libc::POLLPRI, Interest::PRIORITY),
        ];
        let asked = facts.iter().filter(|(flag, _)| self.0.events & flag != 0);
        asked.fold(Interest::NONE, |all, (_, interest)| all | *interest)
    }

    fn as_pollfds(items: &mut [Item]) -> &mut [pollfd] {
        let (pointer, length) = (items.as_mut_ptr().cast(), items.len());
        // SAFETY: `Item` is transparent over `pollfd`, and the borrow is passed on unchanged.
        unsafe { std::slice::from_raw_parts_mut(pointer, length) }
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:#x}", self.0.fd, self.0.events)
    }
}

pub(crate) fn to_mask(interest: Interest) -> c_short {
    let mut mask = 0;
    if interest.is_readable() {
        mask |= libc::POLLIN | POLL_READ_CLOSED;
    }
    if interest.is_writable() {
        mask |= libc::POLLOUT;
    }
    if interest.is_priority() {
        mask |= libc::POLLPRI;
    }
    mask
}

fn to_readiness(revents: c_short) -> Readiness {
    let facts = [
        (libc::POLLIN, Readiness::READABLE),
        (libc::POLLOUT, Readiness::WRITABLE),
        (libc::POLLPRI, Readiness::PRIORITY),
        (libc::POLLERR, Readiness::ERROR),
        (libc::POLLHUP, Readiness::HANG_UP),
        (POLL_READ_CLOSED, Readiness::READ_CLOSED),
        (libc::POLLNVAL, Readiness::INVALID),
    ];
    let told = facts.iter().filter(|(flag, _)| revents & flag != 0);
    told.fold(Readiness::NONE, |readiness, (_, fact)| readiness | *fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_zero_can_be_disarmed() {
        for fd in [0, 1, 1_000_000, RawFd::MAX] {
            let mut item = Item::new(fd, Interest::READABLE);
            item.disarm();
            assert!(item.0.fd < 0);
            assert_eq!(item.fd(), fd);
        }
    }

    #[test]
    fn every_fact_is_told_apart() {
        assert_eq!(
            to_readiness(libc::POLLIN | libc::POLLHUP),
            Readiness::READABLE | Readiness::HANG_UP
        );
        assert_eq!(
            to_readiness(libc::POLLOUT | libc::POLLERR),
            Readiness::WRITABLE | Readiness::ERROR
        );
        assert_eq!(to_readiness(libc::POLLPRI), Readiness::PRIORITY);
        assert_eq!(to_readiness(libc::POLLNVAL), Readiness::INVALID);
        assert_eq!(to_readiness(0), Readiness::NONE);
    }
}
