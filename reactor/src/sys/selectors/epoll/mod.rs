//! epoll(7): Linux.
//!
//! Quirks, each with its consequence below:
//! - A registration belongs to the open file, not to the descriptor. If a descriptor is closed while a
//!   duplicate exists, the kernel continues to report a number that may have a new owner, and no call
//!   can remove it: a *stale registration*. So the cookie in the kernel is not the caller's token but
//!   number and generation, which are looked up in the table. Reports of a stale registration are
//!   recognized and counted, and after [`MAX_STALE_REPORTS`](stale::MAX_STALE_REPORTS) of them the set is rebuilt under the same
//!   number.
//! - If the entry is still in the table, reports of a closed descriptor look right. So every
//!   [`LEVEL_REPORTS`](stale::LEVEL_REPORTS)th report of a level-triggered entry is preceded by an `EPOLL_CTL_MOD` that
//!   changes nothing: EBADF or ENOENT means the descriptor was closed or names another file.
//! - ADD of a file that is stale under the same number is EEXIST: then MOD. MOD of a number that names
//!   another file is ENOENT: then ADD. DEL of a closed number is EBADF or ENOENT, or EPERM if the
//!   number now names a file that epoll cannot watch: that counts as success.
//! - Regular files, directories and the null device are EPERM: returned with an explanation.
//! - The timeout of `epoll_wait` is in milliseconds. `epoll_pwait2` has nanoseconds; kernels
//!   before 5.11 lack it (ENOSYS), and some sandboxes deny it (EPERM): the process remembers that.
//! - An eventfd in edge-triggered mode is reported for every write, read or not: the wake-up
//!   descriptor is never read, which saves a system call for each notification.
//! - EPOLLERR and EPOLLHUP are reported without being requested; EPOLLRDHUP is requested with reading
//!   only (see poll.rs).
//! - Rebuilding the set reports edges again that were reported before. That takes a stale
//!   registration.
//! - To watch a set is to watch its file, which goes away when the set is rebuilt. So `pollable_fd`
//!   returns an outer set that contains this one and stays. It is created when it is requested, and
//!   waits do not go through it. Sets may be nested five deep, so with outer sets a loop in a loop can
//!   be watched by a host's set, and no more.
//! - With less room than ready descriptors the kernel serves them in turn.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use libc::{c_int, epoll_event};

use super::mechanism::{Mechanism, Outcome};
use super::table::{Entry, Table};
use super::wake_up::{LazyWakeUp, WakeUp};
use crate::sys::cvt::explain;
use crate::{Backend, Event, Events, Interest, Mode, Notifier, Readiness, SystemCalls};

use set::EpollSet;

pub(super) mod set;

mod stale;

/// Waits with epoll(7). The place of an entry counts its reports.
#[derive(Debug)]
pub(super) struct Epoll {
    set: EpollSet,
    /// What the kernel fills.
    buffer: Vec<epoll_event>,
    n_stale_reports: u32,
    wake_up: LazyWakeUp,
    /// The set that others watch. `None` inside if there was no descriptor left for it: then `set` itself
    /// is watched.
    outer: OnceCell<Option<EpollSet>>,
    calls: SystemCalls,
}

impl Mechanism for Epoll {
    const BACKEND: Backend = Backend::Epoll;
    const HAS_EDGES: bool = true;
    const SHORT_READ_IS_EMPTY: bool = true;
    const REFUSES_FILES: bool = true;

    type Place = u32;

    fn open() -> io::Result<Epoll> {
        Ok(Epoll {
            set: EpollSet::create()?,
            buffer: Vec::new(),
            n_stale_reports: 0,
            wake_up: LazyWakeUp::default(),
            outer: OnceCell::new(),
            calls: SystemCalls::default(),
        })
    }

    #[inline]
    fn add(
        &mut self,
        table: &mut Table<u32>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<u32> {
        let (mask, cookie) = (to_mask(interest, mode), pack(fd, table.next_generation()));
        let mut result = self.control(libc::EPOLL_CTL_ADD, fd, mask, cookie);
        if is_errno(&result, libc::EEXIST) {
            result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        }
        result.map_err(|error| refused("register", fd, error))?;
        Ok(0)
    }

    #[inline]
    fn change(
        &mut self,
        entry: &mut Entry<u32>,
        fd: RawFd,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        // An edge is requested again, so that the present state is reported; for the other modes the
        // kernel need not know of a new token.
        if entry.armed && entry.interest == interest && entry.mode == mode && mode != Mode::Edge {
            return Ok(());
        }
        let (mask, cookie) = (to_mask(interest, mode), to_cookie(fd, entry));
        let mut result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        if is_errno(&result, libc::ENOENT) {
            result = self.control(libc::EPOLL_CTL_ADD, fd, mask, cookie);
        }
        result.map_err(|error| refused("modify", fd, error))
    }

    #[inline]
    fn remove(&mut self, _: &mut Table<u32>, fd: RawFd, _: Entry<u32>) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_DEL, fd, 0, 0) {
            Err(error) if is_gone(&error) => Ok(()),
            result => result,
        }
    }

    #[inline]
    fn wait(
        &mut self,
        table: &mut Table<u32>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<Outcome> {
        // No more than fit, since an edge that is taken from the kernel must be reported, and no more
        // than there can be descriptors.
        let n_max = (events.capacity() - events.len()).min(1 << 20);
        if self.buffer.len() < n_max {
            self.buffer.resize(n_max, epoll_event { events: 0, u64: 0 });
        }
        self.calls.waits += 1;
        let Some(n_events) = self.set.wait(&mut self.buffer[..n_max], timeout)? else {
            return Ok(Outcome::Interrupted);
        };
        if self.collect(table, n_events, events)? {
            Ok(Outcome::Notified)
        } else if events.is_empty() && n_events == n_max {
            // A batch full of stale registrations.
            Ok(Outcome::Again)
        } else {
            Ok(Outcome::Complete)
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.wake_up.notifier(|| {
            let wake_up = WakeUp::for_edges()?;
            watch_wake_up(&self.set, &wake_up)?;
            Ok(wake_up)
        })
    }

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        let outer = self.outer.get_or_init(|| {
            let outer = EpollSet::create().ok()?;
            outer.watch(&self.set).ok()?;
            Some(outer)
        });
        Some(outer.as_ref().unwrap_or(&self.set).as_fd())
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

impl Epoll {
    #[inline]
    fn control(&mut self, operation: c_int, fd: RawFd, mask: u32, cookie: u64) -> io::Result<()> {
        self.calls.controls += 1;
        self.set.control(operation, fd, mask, cookie)
    }

    /// Turns the first `n_events` of the buffer into events. Returns whether there was a notification.
    #[inline]
    fn collect(
        &mut self,
        table: &mut Table<u32>,
        n_events: usize,
        events: &mut Events,
    ) -> io::Result<bool> {
        let mut notified = false;
        let mut has_stale = false;
        for index in 0..n_events {
            let epoll_event { events: mask, u64: cookie } = self.buffer[index];
            let (fd, generation) = (cookie as u32 as RawFd, (cookie >> 32) as u32);
            let entry = table.get_mut(fd).filter(|entry| entry.generation == generation);
            let Some(entry) = entry else {
                if generation == WAKE_UP {
                    if let Some(wake_up) = self.wake_up.get() {
                        notified |= wake_up.acknowledge_edge()?;
                    }
                } else {
                    has_stale |= self.count_stale_report();
                }
                continue;
            };
            let mut event = Event { token: entry.token, readiness: to_readiness(mask) };
            match entry.mode {
                Mode::Edge => {}
                Mode::OneShot => entry.armed = false,
                Mode::Level => {
                    entry.place += 1;
                    if entry.place >= stale::LEVEL_REPORTS && !self.is_still_watched(fd, entry) {
                        event.readiness = Readiness::INVALID;
                        has_stale = true;
                    }
                }
            }
            events.push(event);
        }
        if has_stale {
            self.remove_stale(table);
        }
        Ok(notified)
    }
}

/// The generation of the wake-up descriptor, which no registration has.
const WAKE_UP: u32 = 0;

#[inline]
fn pack(fd: RawFd, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(fd as u32)
}

#[inline]
fn to_cookie(fd: RawFd, entry: &Entry<u32>) -> u64 {
    pack(fd, entry.generation)
}

fn watch_wake_up(set: &EpollSet, wake_up: &WakeUp) -> io::Result<()> {
    let mask = (libc::EPOLLIN | libc::EPOLLET) as u32;
    set.control(libc::EPOLL_CTL_ADD, wake_up.fd(), mask, pack(wake_up.fd(), WAKE_UP))
}

#[inline]
fn is_errno(result: &io::Result<()>, errno: c_int) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(errno))
}

/// Returns whether an error means that the number no longer names the file that was registered.
#[inline]
fn is_gone(error: &io::Error) -> bool {
    // EPERM: the other file is one that epoll cannot watch.
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOENT | libc::EPERM))
}

#[cold]
fn refused(call: &str, fd: RawFd, error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EPERM) {
        let sentence = format!("{call}: fd {fd}: epoll cannot watch a regular file or directory");
        return explain(error, sentence);
    }
    error
}

#[inline]
fn to_mask(interest: Interest, mode: Mode) -> u32 {
    let mut mask = match mode {
        Mode::Level => 0,
        Mode::OneShot => libc::EPOLLONESHOT,
        Mode::Edge => libc::EPOLLET,
    };
    if interest.is_readable() {
        mask |= libc::EPOLLIN | libc::EPOLLRDHUP;
    }
    if interest.is_writable() {
        mask |= libc::EPOLLOUT;
    }
    if interest.is_priority() {
        mask |= libc::EPOLLPRI;
    }
    mask as u32
}

#[inline]
fn to_readiness(mask: u32) -> Readiness {
    let flags = [
        (libc::EPOLLIN, Readiness::READABLE),
        (libc::EPOLLOUT, Readiness::WRITABLE),
        (libc::EPOLLPRI, Readiness::PRIORITY),
        (libc::EPOLLERR, Readiness::ERROR),
        (libc::EPOLLHUP, Readiness::HANG_UP),
        (libc::EPOLLRDHUP, Readiness::READ_CLOSED),
    ];
    let reported = flags.iter().filter(|(flag, _)| mask & *flag as u32 != 0);
    reported.fold(Readiness::NONE, |readiness, (_, flag)| readiness | *flag)
}
