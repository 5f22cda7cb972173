//! poll(2): on every system, any number of descriptors, each examined in each wait.
//!
//! Quirks, each with its consequence below:
//! - A negative descriptor is skipped: that is how a one-shot that fired is left out without
//!   moving the array. Its number `fd` is stored as `!fd`, so that 0 has a negative twin too.
//! - POLLERR, POLLHUP and POLLNVAL are reported without being requested.
//! - A closed descriptor is POLLNVAL in every wait: reported as invalid once, then skipped. The
//!   others are served in the same call.
//! - More items than RLIMIT_NOFILE is EINVAL, even if they are skipped. As many descriptors as the limit
//!   can be open, so there is no item for the wake-up descriptor before it is open. The limit may be
//!   lowered at run time: then the error says so, and nothing is lost.
//! - POLLRDHUP is requested with reading only: for a writer alone a half-closed peer would be
//!   reported in every wait, and no write could change that.
//! - The backend chooses the order of the scan: it starts where the last full batch ended.
//! - macOS waits in milliseconds, and its poll does not work on devices such as terminals.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{c_short, pollfd};

use super::mechanism::{Mechanism, Outcome};
use super::table::{Entry, Table};
use super::wake_up::{LazyWakeUp, WakeUp};
use crate::sys::cvt::{check_open, explain, named};
use crate::sys::os::{self, POLL_READ_CLOSED};
use crate::{Backend, Event, Events, Interest, Mode, Notifier, PollableFd, Readiness, SystemCalls};

/// Waits with poll(2). The place of an entry is its position in `items`.
#[derive(Debug)]
pub(super) struct Poll {
    /// Invariant: the item of the wake-up descriptor, which is negative until that is open, then one
    /// item for each entry of the table, in no order.
    items: Vec<Item>,
    /// Where the next scan starts.
    cursor: usize,
    wake_up: LazyWakeUp,
    calls: SystemCalls,
}

/// The position of the wake-up descriptor.
const WAKE_UP: usize = 0;

impl Mechanism for Poll {
    const BACKEND: Backend = Backend::Poll;
    const HAS_EDGES: bool = false;

    type Place = u32;

    fn open() -> io::Result<Poll> {
        Ok(Poll {
            items: vec![Item::new(-1, Interest::READABLE)],
            cursor: WAKE_UP + 1,
            wake_up: LazyWakeUp::default(),
            calls: SystemCalls::default(),
        })
    }

    #[inline]
    fn add(
        &mut self,
        _: &mut Table<u32>,
        fd: RawFd,
        interest: Interest,
        _: Mode,
    ) -> io::Result<u32> {
        self.calls.controls += 1;
        check_open(fd)?;
        // Fits: there are no more items than descriptors.
        let place = self.items.len() as u32;
        self.items.push(Item::new(fd, interest));
        Ok(place)
    }

    #[inline]
    fn change(
        &mut self,
        entry: &mut Entry<u32>,
        fd: RawFd,
        interest: Interest,
        _: Mode,
    ) -> io::Result<()> {
        self.items[entry.place as usize] = Item::new(fd, interest);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, table: &mut Table<u32>, _: RawFd, entry: Entry<u32>) -> io::Result<()> {
        let place = entry.place;
        self.items.swap_remove(place as usize);
        // The last item is in this place now, unless it was the one that was removed.
        if let Some(moved) = self.items.get(place as usize)
            && let Some(entry) = table.get_mut(moved.fd())
        {
            entry.place = place;
        }
        Ok(())
    }

    #[inline]
    fn wait(
        &mut self,
        table: &mut Table<u32>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome> {
        debug_assert_eq!(self.items.len(), table.len() + 1);
        let items = match self.wake_up.get() {
            Some(wake_up) => {
                self.items[WAKE_UP].0.fd = wake_up.fd();
                &mut self.items[..]
            }
            None => &mut self.items[WAKE_UP + 1..],
        };
        let n_passed = items.len();
        self.calls.waits += 1;
        match os::poll(Item::as_pollfds(items), timeout) {
            Ok(Some(n_items)) => self.collect(table, n_items, events),
            Ok(None) => Ok(Outcome::Interrupted),
            Err(error) => Err(explain_failure(error, n_passed)),
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.wake_up.notifier(WakeUp::for_levels)
    }

    fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        // The next wait puts it into the array.
        let wake_up = self.wake_up.get().map(WakeUp::fd);
        fds.extend(wake_up.map(|fd| PollableFd { fd, interest: Interest::READABLE }));
        // A disarmed item is not watched.
        let armed = self.items[WAKE_UP + 1..].iter().filter(|item| item.0.fd >= 0);
        fds.extend(armed.map(|item| PollableFd { fd: item.0.fd, interest: item.interest() }));
        Ok(())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

impl Poll {
    /// Turns the `n_items` items that report something into events.
    #[inline]
    fn collect(
        &mut self,
        table: &mut Table<u32>,
        n_items: usize,
        events: &mut Events,
    ) -> io::Result<Outcome> {
        let mut n_left = n_items;
        let mut outcome = Outcome::Complete;
        if n_left > 0
            && self.items[WAKE_UP].0.revents != 0
            && let Some(wake_up) = self.wake_up.get()
        {
            n_left -= 1;
            if wake_up.drain()? {
                outcome = Outcome::Notified;
            }
        }
        if n_left == 0 {
            return Ok(outcome);
        }
        let end = self.items.len();
        let start = if self.cursor < end { self.cursor } else { WAKE_UP + 1 };
        for range in [start..end, WAKE_UP + 1..start] {
            let first = range.start;
            for (offset, item) in self.items[range].iter_mut().enumerate() {
                if item.0.revents == 0 {
                    continue;
                }
                if events.is_full() {
                    self.cursor = first + offset;
                    return Ok(outcome);
                }
                let readiness = to_readiness(item.0.revents);
                if let Some(entry) = table.get_mut(item.0.fd) {
                    events.push(Event { token: entry.token, readiness });
                    if entry.mode == Mode::OneShot || readiness.is_invalid() {
                        entry.armed = false;
                        item.disarm();
                    }
                }
                n_left -= 1;
                if n_left == 0 {
                    return Ok(outcome);
                }
            }
        }
        Ok(outcome)
    }
}

#[cold]
fn explain_failure(error: io::Error, n_items: usize) -> io::Error {
    if error.raw_os_error() != Some(libc::EINVAL) {
        return named("poll")(error);
    }
    let sentence = format!(
        "poll: too many descriptors: {n_items} are more than the limit on open files (RLIMIT_NOFILE)"
    );
    explain(error, sentence)
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
        let flags = [
            (libc::POLLIN, Interest::READABLE),
            (libc::POLLOUT, Interest::WRITABLE),
            (libc::POLLPRI, Interest::PRIORITY),
        ];
        let requested = flags.iter().filter(|(flag, _)| self.0.events & flag != 0);
        requested.fold(Interest::NONE, |all, (_, interest)| all | *interest)
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
    let flags = [
        (libc::POLLIN, Readiness::READABLE),
        (libc::POLLOUT, Readiness::WRITABLE),
        (libc::POLLPRI, Readiness::PRIORITY),
        (libc::POLLERR, Readiness::ERROR),
        (libc::POLLHUP, Readiness::HANG_UP),
        (POLL_READ_CLOSED, Readiness::READ_CLOSED),
        (libc::POLLNVAL, Readiness::INVALID),
    ];
    let reported = flags.iter().filter(|(flag, _)| revents & flag != 0);
    reported.fold(Readiness::NONE, |readiness, (_, flag)| readiness | *flag)
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
    fn every_flag_is_distinguished() {
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
