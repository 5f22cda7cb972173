//! epoll(7): Linux.
//!
//! Quirks, each with its consequence below:
//! - A registration belongs to the open file, not to the descriptor. If a descriptor is closed
//!   while a duplicate lives, reports go on for a number that may have a new owner, and no call
//!   can silence them (a *ghost*). So what the kernel carries for us is not the caller's token
//!   but number and generation, looked up in the table: a ghost is told from every later
//!   registration, its hits are counted, and after [`GHOST_HITS`] of them the set is made anew,
//!   under the same number.
//! - If the ghost's own entry is still in the table, its reports look right. So every
//!   [`LEVEL_REPORTS`]th report of a level-triggered entry is preceded by an `EPOLL_CTL_MOD` that
//!   changes nothing: EBADF or ENOENT means the descriptor was closed or has another file.
//! - ADD of the same open file under the same number as a ghost is EEXIST: then MOD. MOD of a
//!   number that has another file is ENOENT: then ADD. DEL of a closed number is EBADF or ENOENT,
//!   or EPERM if the number went to a file that epoll cannot watch: that is as good as done.
//! - Regular files, directories and the null device are EPERM: passed on with the reason.
//! - The timeout of `epoll_wait` is in milliseconds. `epoll_pwait2` has nanoseconds; kernels
//!   before 5.11 lack it (ENOSYS), and some sandboxes deny it (EPERM): remembered by the process.
//! - An eventfd that is watched by edges reports every write, read or not: the alarm is never
//!   read, which saves a system call for each notification.
//! - EPOLLERR and EPOLLHUP are told without being asked for; EPOLLRDHUP is asked for with reading
//!   only (see poll.rs).
//! - Making the set anew reports edges again that were reported before. It needs a ghost to happen.
//! - Who watches a set watches its file, which goes away when the set is made anew. So what
//!   `pollable_fd` lends is another set, that has this one in it and stays (the *window*). It is made
//!   when it is asked for, and waits do not go through it. Sets may be nested five deep, so with
//!   windows a loop in a loop can be watched by a host's set, and no more.
//! - With less room than ready descriptors the kernel serves them in turn.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, epoll_event};

use crate::{
    Backend, Event, Events, Interest, Mode, Notifier, Readiness, Registration, Selector,
    SystemCalls, Token, WaitEnd,
};

use super::cvt::{cvt, explain, named, waited};
use super::fork::ForkGuard;
use super::lost::LostDescriptor;
use super::refusal::Refusal;
use super::table::{Closed, Entry, Table};
use super::wait::{Wait, to_ms};
use super::wake::Alarm;

/// How many reports of unknown registrations are ignored before the set is made anew. Making it
/// costs three system calls for each registered descriptor, a hit costs one wait.
const GHOST_HITS: u32 = 64;

/// How many reports of a level-triggered entry are believed before one is checked: a control call
/// of some 150 ns for every 64 reports is not measurable, and a closed descriptor that nobody
/// takes out stops after 64 useless turns.
const LEVEL_REPORTS: u32 = 64;

/// How long a wait rests when the set is haunted and cannot be made anew for lack of descriptors.
const HAUNTED_REST: Duration = Duration::from_millis(1);

/// Whether the kernel refuses `epoll_pwait2`.
static NO_NANOSECONDS: Refusal = Refusal::new();

/// Waits with epoll(7).
#[derive(Debug)]
pub(super) struct EpollSelector {
    epoll: OwnedFd,
    /// The place counts the reports.
    table: Table<u32>,
    /// What the kernel fills. Invariant: never empty after the first wait.
    buffer: Vec<epoll_event>,
    closed: Closed,
    n_ghost_hits: u32,
    alarm: OnceCell<Alarm>,
    /// What others watch: a set that has this one in it. None inside if there was no descriptor left
    /// for it: then the set itself was lent.
    window: OnceCell<Option<OwnedFd>>,
    fork: ForkGuard,
    calls: SystemCalls,
}

impl EpollSelector {
    pub(super) fn new() -> io::Result<EpollSelector> {
        let epoll = create()?;
        Ok(EpollSelector {
            epoll,
            table: Table::new(),
            buffer: Vec::new(),
            closed: Closed::default(),
            n_ghost_hits: 0,
            alarm: OnceCell::new(),
            window: OnceCell::new(),
            fork: ForkGuard::new(),
            calls: SystemCalls::default(),
        })
    }

    fn control(&mut self, operation: c_int, fd: RawFd, mask: u32, cookie: u64) -> io::Result<()> {
        self.calls.controls += 1;
        control(&self.epoll, operation, fd, mask, cookie)
    }

    /// Asks the kernel once, for at most `n_max` events; `Ok(None)` if a signal came.
    fn ask(&mut self, n_max: usize, timeout: Option<Duration>) -> io::Result<Option<usize>> {
        // More than a `c_int` of events is more than there are descriptors.
        let n_max = n_max.min(1 << 20);
        if self.buffer.len() < n_max {
            self.buffer.resize(n_max, epoll_event { events: 0, u64: 0 });
        }
        self.calls.waits += 1;
        let (fd, buffer) = (self.epoll.as_raw_fd(), self.buffer.as_mut_ptr());
        if let Some(timeout) = timeout
            && !timeout.is_zero()
        {
            let call = || wait_ns(fd, &mut self.buffer[..n_max], timeout);
            let probe = || wait_ns(-1, &mut [epoll_event { events: 0, u64: 0 }], timeout);
            // If that is refused, now or earlier, the wait that was counted is the one below.
            if let Some(result) = NO_NANOSECONDS.call(call, probe) {
                return result.map_err(|error| lost_or(error, fd));
            }
        }
        let n_max = n_max as c_int;
        // SAFETY: `buffer` is valid for writes of `n_max` events, since its vector is that long
        // and is not touched before the call is over.
        let result = waited(unsafe { libc::epoll_wait(fd, buffer, n_max, to_ms(timeout)) });
        result.map_err(|error| lost_or(error, fd))
    }

    /// Turns the first `n_events` of the buffer into events, and reports whether there was a
    /// notification.
    fn collect(&mut self, n_events: usize, events: &mut Events) -> io::Result<bool> {
        let mut notified = false;
        let mut is_haunted = false;
        for index in 0..n_events {
            let epoll_event { events: mask, u64: cookie } = self.buffer[index];
            let (fd, generation) = (cookie as u32 as RawFd, (cookie >> 32) as u32);
            let entry = self.table.get_mut(fd).filter(|entry| entry.generation == generation);
            let Some(entry) = entry else {
                if generation == ALARM {
                    if let Some(alarm) = self.alarm.get() {
                        notified |= alarm.acknowledge_edge()?;
                    }
                } else {
                    self.n_ghost_hits += 1;
                }
                continue;
            };
            let mut event = Event { token: entry.token, readiness: to_readiness(mask) };
            match entry.mode {
                Mode::Edge => {}
                Mode::OneShot => entry.armed = false,
                Mode::Level => {
                    entry.place += 1;
                    if entry.place >= LEVEL_REPORTS && !self.is_still_watched(fd) {
                        event.readiness = Readiness::INVALID;
                        is_haunted = true;
                    }
                }
            }
            events.push(event);
        }
        if is_haunted || self.n_ghost_hits >= GHOST_HITS {
            self.n_ghost_hits = 0;
            if self.rebuild().is_err() {
                std::thread::sleep(HAUNTED_REST);
            }
        }
        Ok(notified)
    }

    /// Asks the kernel whether the number still has the file that was registered; disarms the
    /// entry if not.
    fn is_still_watched(&mut self, fd: RawFd) -> bool {
        let Some(entry) = self.table.get_mut(fd) else { return false };
        entry.place = 0;
        let (mask, cookie) = (to_mask(entry.interest, entry.mode), to_cookie(fd, entry));
        let result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        let is_watched = !result.is_err_and(|error| is_gone(&error));
        if !is_watched && let Some(entry) = self.table.get_mut(fd) {
            entry.armed = false;
        }
        is_watched
    }

    /// Makes the set anew without the ghosts, under the same number.
    fn rebuild(&mut self) -> io::Result<()> {
        let fresh = create()?;
        if let Some(alarm) = self.alarm.get() {
            watch_alarm(&fresh, alarm)?;
        }
        let mut closed = Vec::new();
        for (fd, entry) in self.table.iter().filter(|(_, entry)| entry.armed) {
            let (mask, cookie) = (to_mask(entry.interest, entry.mode), to_cookie(fd, entry));
            // Only what the old set still watches under this number: by now it may be the number
            // of a file that nobody registered.
            self.calls.controls += 2;
            match control(&self.epoll, libc::EPOLL_CTL_MOD, fd, mask, cookie) {
                Err(error) if is_gone(&error) => closed.push(fd),
                _ => control(&fresh, libc::EPOLL_CTL_ADD, fd, mask, cookie)?,
            }
        }
        if let Some(Some(window)) = self.window.get() {
            // The old set leaves it when its file is closed, by the next call.
            watch_set(window, &fresh)?;
        }
        // SAFETY: the call takes no pointers; both are open, and the number of `self.epoll` stays
        // owned by it: only the file behind it changes.
        cvt(unsafe { libc::dup3(fresh.as_raw_fd(), self.epoll.as_raw_fd(), libc::O_CLOEXEC) })?;
        for fd in closed {
            self.closed.add(&mut self.table, fd);
        }
        Ok(())
    }
}

impl Selector for EpollSelector {
    fn backend(&self) -> Backend {
        Backend::Epoll
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
        let (mask, cookie) = (to_mask(interest, mode), pack(fd, self.table.next_generation()));
        let mut result = self.control(libc::EPOLL_CTL_ADD, fd, mask, cookie);
        if is_errno(&result, libc::EEXIST) {
            result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        }
        result.map_err(|error| refused("register", fd, error))?;
        self.table.insert(fd, token, interest, mode, 0);
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
        let entry = self.table.find_to_modify(fd, interest)?;
        // An edge is asked for again, so that the present state is reported; for the others the
        // kernel need not know of a new token.
        let is_same = entry.armed && entry.interest == interest && entry.mode == mode;
        if !is_same || mode == Mode::Edge {
            let (mask, cookie) = (to_mask(interest, mode), to_cookie(fd, entry));
            let mut result = self.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
            if is_errno(&result, libc::ENOENT) {
                result = self.control(libc::EPOLL_CTL_ADD, fd, mask, cookie);
            }
            result.map_err(|error| refused("modify", fd, error))?;
        }
        let entry = self.table.find_to_modify(fd, interest)?;
        (entry.token, entry.interest, entry.mode, entry.armed) = (token, interest, mode, true);
        Ok(())
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.fork.check()?;
        self.table.remove(fd)?;
        match self.control(libc::EPOLL_CTL_DEL, fd, 0, 0) {
            Err(error) if is_gone(&error) => Ok(()),
            result => result,
        }
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
            // No more than fit: an edge that is taken from the kernel must be passed on.
            let n_max = events.capacity() - events.len();
            let Some(n_events) = self.ask(n_max, wait.slice())? else {
                events.set_wait_end(WaitEnd::Signal);
                return Ok(());
            };
            let notified = self.collect(n_events, events)?;
            if notified {
                events.set_wait_end(WaitEnd::Notification);
            }
            if notified || !events.is_empty() {
                return Ok(());
            }
            // A batch full of ghosts may hide an event, even when the time is over.
            if !wait.goes_on() && n_events < n_max {
                return Ok(());
            }
        }
    }

    fn notifier(&self) -> io::Result<Notifier> {
        self.fork.check()?;
        if self.alarm.get().is_none() {
            let alarm = Alarm::for_edges()?;
            watch_alarm(&self.epoll, &alarm)?;
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

    fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        let window = self.window.get_or_init(|| {
            let window = create().ok()?;
            watch_set(&window, &self.epoll).ok()?;
            Some(window)
        });
        Some(window.as_ref().unwrap_or(&self.epoll).as_fd())
    }

    fn short_read_is_empty(&self) -> bool {
        true
    }

    fn refuses_files(&self) -> bool {
        true
    }

    fn system_calls(&self) -> SystemCalls {
        self.calls
    }
}

/// The generation of the alarm, which the table gives to nobody.
const ALARM: u32 = 0;

fn pack(fd: RawFd, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(fd as u32)
}

fn to_cookie<P>(fd: RawFd, entry: &Entry<P>) -> u64 {
    pack(fd, entry.generation)
}

/// Makes an empty set.
fn create() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let epoll = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
    let epoll = epoll.map_err(named("epoll_create1"))?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(epoll) })
}

fn watch_alarm(epoll: &OwnedFd, alarm: &Alarm) -> io::Result<()> {
    let mask = (libc::EPOLLIN | libc::EPOLLET) as u32;
    control(epoll, libc::EPOLL_CTL_ADD, alarm.fd(), mask, pack(alarm.fd(), ALARM))
}

/// Makes `window` readable whenever something waits in `set`.
fn watch_set(window: &OwnedFd, set: &OwnedFd) -> io::Result<()> {
    control(window, libc::EPOLL_CTL_ADD, set.as_raw_fd(), libc::EPOLLIN as u32, 0)
}

/// Explains why a wait failed: the number of the set was closed, or has another file.
#[cold]
fn lost_or(error: io::Error, epoll: RawFd) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADF) => LostDescriptor::closed(epoll, error),
        // Nothing else of a wait is invalid.
        Some(libc::EINVAL) => LostDescriptor::replaced(epoll),
        _ => named("epoll_wait")(error),
    }
}

fn control(epoll: &OwnedFd, operation: c_int, fd: RawFd, mask: u32, cookie: u64) -> io::Result<()> {
    let mut event = epoll_event { events: mask, u64: cookie };
    // SAFETY: `event` is a local that outlives the call; a wrong `fd` is an error, no harm.
    cvt(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) })?;
    Ok(())
}

/// Waits to the nanosecond, if the kernel can.
fn wait_ns(
    epoll: RawFd,
    buffer: &mut [epoll_event],
    timeout: Duration,
) -> io::Result<Option<usize>> {
    /// The kernel's own `timespec`: 64 bits each on every architecture.
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    let timespec = Timespec {
        // Clamped by `Wait`.
        seconds: timeout.as_secs() as i64,
        nanoseconds: i64::from(timeout.subsec_nanos()),
    };
    let no_mask: *const libc::sigset_t = ptr::null();
    // SAFETY: `buffer` is valid for writes of its own length, `timespec` is a local that outlives
    // the call and has the layout of the kernel's, and no mask is passed, which has size 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_epoll_pwait2,
            epoll,
            buffer.as_mut_ptr(),
            buffer.len() as c_int,
            ptr::from_ref(&timespec),
            no_mask,
            0_usize,
        )
    };
    waited(result as c_int)
}

fn is_errno(result: &io::Result<()>, errno: c_int) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(errno))
}

/// Reports whether an error means that the number no longer has the file that was registered.
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

fn to_readiness(mask: u32) -> Readiness {
    let facts = [
        (libc::EPOLLIN, Readiness::READABLE),
        (libc::EPOLLOUT, Readiness::WRITABLE),
        (libc::EPOLLPRI, Readiness::PRIORITY),
        (libc::EPOLLERR, Readiness::ERROR),
        (libc::EPOLLHUP, Readiness::HANG_UP),
        (libc::EPOLLRDHUP, Readiness::READ_CLOSED),
    ];
    let told = facts.iter().filter(|(flag, _)| mask & *flag as u32 != 0);
    told.fold(Readiness::NONE, |readiness, (_, fact)| readiness | *fact)
}
