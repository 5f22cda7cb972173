//! poll(2): on every system, any number of descriptors, each examined in each wait.
//!
//! Quirks, each with its consequence below:
//! - A negative descriptor is skipped: that is how a one-shot that fired is left out without
//!   moving the array. Only -1 will do, since DragonFly reports any other as invalid; so the numbers
//!   are kept in a list beside the array.
//! - POLLERR, POLLHUP and POLLNVAL are reported without being requested.
//! - A closed descriptor is POLLNVAL in every wait: reported as invalid once, then skipped. The
//!   others are served in the same call.
//! - More items than RLIMIT_NOFILE is EINVAL, even if they are skipped. As many descriptors as the limit
//!   can be open, so there is no item for the wake-up descriptor before it is open. The limit may be
//!   lowered at run time: then the error says so, and nothing is lost.
//! - POLLRDHUP is requested with reading only: for a writer alone a half-closed peer would be
//!   reported in every wait, and no write could change that.
//! - FreeBSD accepts POLLRDHUP for sockets only: with it, a regular file reports nothing, and a device
//!   without poll is invalid. `register` checks whether a descriptor is a socket.
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
use crate::sys::stat::stat_of;
use crate::{Backend, Event, Events, Interest, Mode, Notifier, PollableFd, Readiness, SystemCalls};

/// Waits with poll(2).
#[derive(Debug)]
pub(super) struct Poll {
    /// Invariant: the item of the wake-up descriptor, which is negative until that is open, then one
    /// item for each entry of the table, in no order.
    items: Vec<Item>,
    /// Invariant: the descriptor of each item, armed or not.
    fds: Vec<RawFd>,
    /// Where the next scan starts.
    cursor: usize,
    wake_up: LazyWakeUp,
    calls: SystemCalls,
}

/// What poll keeps in an entry of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The position in `items`.
    position: u32,
    /// The flag for the end of the peer's sending, or 0 if the descriptor does not accept it.
    read_closed: c_short,
}

/// The position of the wake-up descriptor.
const WAKE_UP: usize = 0;

impl Mechanism for Poll {
    const BACKEND: Backend = Backend::Poll;
    const HAS_EDGES: bool = false;

    type Place = Place;

    fn open() -> io::Result<Poll> {
        Ok(Poll {
            items: vec![Item::new(-1, Interest::READABLE, 0)],
            fds: vec![-1],
            cursor: WAKE_UP + 1,
            wake_up: LazyWakeUp::default(),
            calls: SystemCalls::default(),
        })
    }

    #[inline]
    fn add(
        &mut self,
        _: &mut Table<Place>,
        fd: RawFd,
        interest: Interest,
        _: Mode,
    ) -> io::Result<Place> {
        self.calls.controls += 1;
        let read_closed = accepted_by(fd, POLL_READ_CLOSED)?;
        // Fits: there are no more items than descriptors.
        let position = self.items.len() as u32;
        self.items.push(Item::new(fd, interest, read_closed));
        self.fds.push(fd);
        Ok(Place { position, read_closed })
    }

    #[inline]
    fn change(
        &mut self,
        entry: &mut Entry<Place>,
        fd: RawFd,
        interest: Interest,
        _: Mode,
    ) -> io::Result<()> {
        let Place { position, read_closed } = entry.place;
        self.items[position as usize] = Item::new(fd, interest, read_closed);
        Ok(())
    }

    #[inline]
    fn remove(
        &mut self,
        table: &mut Table<Place>,
        _: RawFd,
        entry: Entry<Place>,
    ) -> io::Result<()> {
        let position = entry.place.position;
        self.items.swap_remove(position as usize);
        self.fds.swap_remove(position as usize);
        // The last item is in this place now, unless it was the one that was removed.
        if let Some(moved) = self.fds.get(position as usize)
            && let Some(entry) = table.get_mut(*moved)
        {
            entry.place.position = position;
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
        table: &mut Table<Place>,
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

/// A `pollfd` that can be left out.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Item(pollfd);

impl Item {
    fn new(fd: RawFd, interest: Interest, read_closed: c_short) -> Item {
        Item(pollfd { fd, events: to_mask(interest, read_closed), revents: 0 })
    }

    /// Makes poll skip the item.
    fn disarm(&mut self) {
        debug_assert!(self.0.fd >= 0, "disarmed twice");
        self.0.fd = -1;
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

/// The flag by which poll reports that the peer will send nothing more.
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct ReadClosed {
    /// Is 0 where there is none.
    pub(in crate::sys) flag: c_short,
    /// Whether only sockets accept it.
    pub(in crate::sys) is_for_sockets: bool,
}

/// Returns the flag, or 0 if the descriptor does not accept it.
///
/// # Errors
/// `EBADF` if `fd` is not open.
fn accepted_by(fd: RawFd, read_closed: ReadClosed) -> io::Result<c_short> {
    if !read_closed.is_for_sockets {
        check_open(fd)?;
        return Ok(read_closed.flag);
    }
    let is_socket = stat_of(fd)?.st_mode & libc::S_IFMT == libc::S_IFSOCK;
    Ok(if is_socket { read_closed.flag } else { 0 })
}

/// Returns what a host asks poll for, of a descriptor that may be of any kind.
pub(crate) fn events_of(interest: Interest) -> c_short {
    let ReadClosed { flag, is_for_sockets } = POLL_READ_CLOSED;
    to_mask(interest, if is_for_sockets { 0 } else { flag })
}

fn to_mask(interest: Interest, read_closed: c_short) -> c_short {
    let mut mask = 0;
    if interest.is_readable() {
        mask |= libc::POLLIN | read_closed;
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
        (POLL_READ_CLOSED.flag, Readiness::READ_CLOSED),
        (libc::POLLNVAL, Readiness::INVALID),
    ];
    let reported = flags.iter().filter(|(flag, _)| revents & flag != 0);
    reported.fold(Readiness::NONE, |readiness, (_, flag)| readiness | *flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DragonFly skips no other negative number.
    #[test]
    fn a_disarmed_item_holds_minus_one() {
        for fd in [0, 1, 1_000_000, RawFd::MAX] {
            let mut item = Item::new(fd, Interest::READABLE, 0);
            item.disarm();
            assert_eq!(item.0.fd, -1);
        }
    }

    /// FreeBSD: a regular file that is asked for it reports nothing.
    #[test]
    fn only_sockets_are_asked_for_the_end_where_others_do_not_accept_it() {
        use std::os::fd::AsRawFd;

        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let (pipe, _) = io::pipe().unwrap();
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let flag = 0x4000;
        let on_freebsd = ReadClosed { flag, is_for_sockets: true };
        assert_eq!(accepted_by(socket.as_raw_fd(), on_freebsd).unwrap(), flag);
        for fd in [pipe.as_raw_fd(), file.as_raw_fd(), null.as_raw_fd()] {
            let accepted = accepted_by(fd, on_freebsd).unwrap();
            assert_eq!(to_mask(Interest::READABLE, accepted), libc::POLLIN);
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
