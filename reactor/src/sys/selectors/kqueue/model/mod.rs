//! A model of kevent(2) as each system answers it, for tests on Linux.
//!
//! The selector's code for kqueue runs over it unchanged: [`Model`] stands where the kernel is.
//!
//! - [`profile`]: the table of what the systems answer.
//! - [`look`]: what a filter sees of a descriptor on Linux.
//! - This file: the knotes, in the order in which they wait to be collected.
//!
//! As in a kernel, a filter is evaluated when it is added, when an event occurs on its file (an edge of
//! epoll here), and when it is collected. Not modelled: timers, FIFOs apart from pipes,
//! terminals, devices, positions in files, and wake-ups that a kernel forgets.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libc::{c_int, epoll_event};

use super::Kqueue;
use super::changes::change;
use super::kernel::{Kernel, OutOfBand};
use crate::Selector;
use crate::conformance::KqueueSystem;
use crate::sys::kq::{self, Filter, Flags, Kevent};
use crate::sys::selectors::epoll::set::EpollSet;
use crate::sys::selectors::system_selector::SystemSelector;
use crate::sys::socket::kind::{Kind, status};
use crate::sys::stat::FileId;
use crate::sys::wake::WakeFd;

use look::Look;
use profile::Profile;

mod profile;

mod look;

/// A model of a system's kqueue.
#[derive(Clone, Copy, Debug)]
pub struct KqueueModel {
    /// Its name.
    pub name: &'static str,
    /// The system's description.
    pub system: KqueueSystem,
    /// Opens a selector.
    pub open: fn() -> io::Result<Box<dyn Selector>>,
}

/// The models of all systems.
pub const MODELS: &[KqueueModel] = &[
    model_of::<FreeBsd>("freebsd"),
    model_of::<OpenBsd>("openbsd"),
    model_of::<NetBsd>("netbsd"),
    model_of::<NewerNetBsd>("newer netbsd"),
    model_of::<DragonFly>("dragonfly"),
    model_of::<MacOs>("macos"),
];

const fn model_of<S: System>(name: &'static str) -> KqueueModel {
    KqueueModel { name, system: S::PROFILE.system, open: open::<S> }
}

fn open<S: System>() -> io::Result<Box<dyn Selector>> {
    Ok(Box::new(SystemSelector::<Kqueue<Model<S>>>::open()?))
}

/// A modelled system.
trait System: fmt::Debug + Send + Sync + 'static {
    const PROFILE: Profile;
}

macro_rules! systems {
    ($($name:ident: $profile:ident),* $(,)?) => {
        $(
            #[derive(Debug)]
            struct $name;

            impl System for $name {
                const PROFILE: Profile = profile::$profile;
            }
        )*
    };
}

systems! {
    FreeBsd: FREEBSD,
    OpenBsd: OPENBSD,
    NetBsd: NETBSD,
    NewerNetBsd: NEWER_NETBSD,
    DragonFly: DRAGONFLY,
    MacOs: MACOS,
}

/// A kqueue as a system has it.
#[derive(Debug)]
struct Model<S> {
    state: Mutex<State>,
    /// Reports events on a file, and a triggered user event, as edges.
    edges: EpollSet,
    /// Is raised when a user event is triggered.
    doorbell: WakeFd,
    /// Is raised while there is something to collect.
    active: WakeFd,
    /// Is readable if `edges` or `active` is: the kqueue's descriptor.
    readable: EpollSet,
    system: PhantomData<S>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they are collected.
    knotes: VecDeque<Knote>,
    /// The descriptors that they are about.
    watched: BTreeMap<RawFd, Watched>,
    n_watched: u32,
}

/// A descriptor with a knote.
#[derive(Clone, Copy, Debug)]
struct Watched {
    file: Identity,
    kind: Kind,
    /// Distinguishes the edges of this one from those of an earlier one that has a duplicate.
    serial: u32,
}

/// What a number names: a file, and the mode it was opened in, since both ends of a pipe are one file.
type Identity = (FileId, c_int);

/// Returns what a number names.
///
/// # Errors
/// `EBADF` if it is not open.
fn identity_of(fd: RawFd) -> Result<Identity, c_int> {
    let file = FileId::of(fd).map_err(|_| libc::EBADF)?;
    let status = status(fd).map_err(|_| libc::EBADF)?;
    Ok((file, status & libc::O_ACCMODE))
}

/// A filter that was added.
#[derive(Clone, Copy, Debug)]
struct Knote {
    ident: usize,
    filter: Filter,
    flags: Flags,
    /// The flags that it was added with.
    fflags: u32,
    cookie: usize,
    /// What made it active.
    found: Look,
    /// The kernel drops it when it is collected.
    is_dropped: bool,
}

/// The cookie of the doorbell in the set of edges. No watched descriptor has serial 0.
const DOORBELL: u64 = 0;

impl<S: System> Kernel for Model<S> {
    const OUT_OF_BAND: Option<OutOfBand> = match S::PROFILE.out_of_band {
        Some((out_of_band, _)) => Some(out_of_band),
        None => None,
    };
    const IS_POLLABLE: bool = true;

    fn open() -> io::Result<Model<S>> {
        let (edges, readable) = (EpollSet::create()?, EpollSet::create()?);
        let (doorbell, active) = (WakeFd::new()?, WakeFd::new()?);
        let mask = (libc::EPOLLIN | libc::EPOLLET) as u32;
        edges.control(libc::EPOLL_CTL_ADD, doorbell.as_fd().as_raw_fd(), mask, DOORBELL)?;
        readable.watch(&edges)?;
        let mask = libc::EPOLLIN as u32;
        readable.control(libc::EPOLL_CTL_ADD, active.as_fd().as_raw_fd(), mask, 0)?;
        let state = Mutex::new(State::default());
        Ok(Model { state, edges, doorbell, active, readable, system: PhantomData })
    }

    fn kevent(
        &self,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>> {
        // None is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.lock();
        state.forget_closed();
        let n_answers = self.submit(&mut state, changes, events)?;
        if events.is_empty() {
            return Ok(Some(0));
        }
        self.take_edges(&mut state, Duration::ZERO)?;
        // Answers are returned alone.
        let mut n_events = n_answers;
        while n_events == 0 {
            n_events = state.collect(events, &S::PROFILE);
            for event in &events[..n_events] {
                self.forget_unused(&mut state, event.ident as RawFd);
            }
            let rest = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if n_events > 0 || rest == Some(Duration::ZERO) {
                break;
            }
            drop(state);
            let mut buffer = [NO_EVENT; N_EDGES];
            let Some(n_edges) = self.edges.wait(&mut buffer, rest)? else { return Ok(None) };
            state = self.lock();
            state.touch(&buffer[..n_edges], &S::PROFILE);
        }
        let is_active = state.knotes.iter().any(|knote| knote.found.is_active);
        if is_active {
            self.active.raise()?
        } else {
            self.active.drain().map(drop)?
        }
        Ok(Some(n_events))
    }
}

const NO_EVENT: epoll_event = epoll_event { events: 0, u64: 0 };
const N_EDGES: usize = 64;

impl<S: System> Model<S> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the changes, and writes their errors and receipts. Returns how many.
    fn submit(
        &self,
        state: &mut State,
        changes: &[Kevent],
        events: &mut [Kevent],
    ) -> io::Result<usize> {
        let profile = &S::PROFILE;
        let mut n_answers = 0;
        for change in changes {
            let result = self.apply(state, change);
            if result.is_ok() && change.flags & kq::EV_RECEIPT == 0 {
                continue;
            }
            let errno = result.err().unwrap_or(0);
            let Some(answer) = events.get_mut(n_answers) else {
                assert!(!profile.overruns || events.is_empty(), "written behind the list");
                return if errno == 0 {
                    Ok(n_answers)
                } else {
                    Err(io::Error::from_raw_os_error(errno))
                };
            };
            *answer = *change;
            let flags = if profile.keeps_flags { change.flags } else { 0 };
            answer.flags = flags | kq::EV_ERROR;
            answer.data = errno as isize;
            n_answers += 1;
        }
        Ok(n_answers)
    }

    /// Makes one change.
    fn apply(&self, state: &mut State, change: &Kevent) -> Result<(), c_int> {
        if change.filter == kq::EVFILT_USER {
            let knote = state.find(change);
            match knote {
                None if change.flags & kq::EV_ADD != 0 => state.knotes.push_back(Knote::of(change)),
                None => return Err(libc::ENOENT),
                Some(index) if change.fflags & kq::NOTE_TRIGGER != 0 => {
                    state.knotes[index].found.is_active = true;
                    self.doorbell.raise().expect("an eventfd can be written");
                }
                Some(_) => {}
            }
            return Ok(());
        }
        let is_known = matches!(change.filter, kq::EVFILT_READ | kq::EVFILT_WRITE)
            || Self::OUT_OF_BAND.is_some_and(|filter| filter.filter == change.filter);
        if !is_known {
            return Err(libc::EINVAL);
        }
        let fd = change.ident as RawFd;
        assert!(fd != self.readable.as_fd().as_raw_fd(), "NetBSD stops");
        let file = identity_of(fd)?;
        let position = state.find(change);
        if change.flags & kq::EV_DELETE != 0 {
            state.knotes.remove(position.ok_or(libc::ENOENT)?);
            self.forget_unused(state, fd);
            return Ok(());
        }
        let index = match position {
            Some(index) => {
                let knote = &mut state.knotes[index];
                (knote.fflags, knote.cookie) = (change.fflags, change.udata.addr());
                index
            }
            None if change.flags & kq::EV_ADD != 0 => {
                let kind = look::kind(fd)?;
                look::attach(fd, kind, change.filter, &S::PROFILE)?;
                if !state.watched.contains_key(&fd) {
                    self.watch(state, fd, file, kind);
                }
                state.knotes.push_back(Knote::of(change));
                state.knotes.len() - 1
            }
            None => return Err(libc::ENOENT),
        };
        let knote = &mut state.knotes[index];
        knote.evaluate(state.watched[&fd].kind, &S::PROFILE);
        knote.is_dropped = false;
        Ok(())
    }

    fn watch(&self, state: &mut State, fd: RawFd, file: Identity, kind: Kind) {
        state.n_watched += 1;
        let serial = state.n_watched;
        let cookie = u64::from(serial) << 32 | fd as u64;
        let mask = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP;
        let mask = (mask | libc::EPOLLET) as u32;
        let result = self.edges.control(libc::EPOLL_CTL_ADD, fd, mask, cookie);
        if result.is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            // The same file was closed under this number, and came back.
            let _ = self.edges.control(libc::EPOLL_CTL_MOD, fd, mask, cookie);
        }
        // Refused are files: those are ready always.
        state.watched.insert(fd, Watched { file, kind, serial });
    }

    fn forget_unused(&self, state: &mut State, fd: RawFd) {
        if !state.knotes.iter().any(|knote| knote.is_about(fd))
            && state.watched.remove(&fd).is_some()
        {
            let _ = self.edges.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
    }

    fn take_edges(&self, state: &mut State, timeout: Duration) -> io::Result<()> {
        let mut buffer = [NO_EVENT; N_EDGES];
        loop {
            let n_edges = self.edges.wait(&mut buffer, Some(timeout))?.unwrap_or(0);
            state.touch(&buffer[..n_edges], &S::PROFILE);
            if n_edges < N_EDGES {
                return Ok(());
            }
        }
    }
}

impl<S> AsFd for Model<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl State {
    fn find(&self, change: &Kevent) -> Option<usize> {
        let is_it = |knote: &Knote| (knote.ident, knote.filter) == (change.ident, change.filter);
        self.knotes.iter().position(is_it)
    }

    /// Drops what is about descriptors that were closed.
    fn forget_closed(&mut self) {
        let closed = |(fd, watched): (&RawFd, &Watched)| {
            let is_open = identity_of(*fd).is_ok_and(|file| file == watched.file);
            (!is_open).then_some(*fd)
        };
        let closed: Vec<RawFd> = self.watched.iter().filter_map(closed).collect();
        for fd in closed {
            self.watched.remove(&fd);
            self.knotes.retain(|knote| !knote.is_about(fd));
        }
    }

    /// Evaluates the filters of the files to which something happened.
    fn touch(&mut self, edges: &[epoll_event], profile: &Profile) {
        for edge in edges {
            let (fd, serial) = (edge.u64 as u32 as RawFd, (edge.u64 >> 32) as u32);
            let Some(watched) = self.watched.get(&fd) else { continue };
            if watched.serial == serial {
                for knote in self.knotes.iter_mut().filter(|knote| knote.is_about(fd)) {
                    knote.evaluate(watched.kind, profile);
                }
            }
        }
    }

    /// Writes what is active into the list. Returns how many.
    fn collect(&mut self, events: &mut [Kevent], profile: &Profile) -> usize {
        let mut n_events = 0;
        for _ in 0..self.knotes.len() {
            if n_events == events.len() {
                break;
            }
            let Some(mut knote) = self.knotes.pop_front() else { break };
            let is_one_shot = knote.flags & kq::EV_ONESHOT != 0;
            if knote.found.is_active
                && knote.filter != kq::EVFILT_USER
                && !(is_one_shot && profile.system.keeps_one_shots)
            {
                knote.found.is_active = false;
                knote.evaluate(self.watched[&(knote.ident as RawFd)].kind, profile);
            }
            if knote.found.is_active {
                events[n_events] = knote.to_event();
                n_events += 1;
                if is_one_shot || knote.is_dropped {
                    continue;
                }
                if knote.flags & kq::EV_CLEAR != 0 {
                    knote.found = Look::default();
                }
            }
            self.knotes.push_back(knote);
        }
        n_events
    }
}

impl Knote {
    fn of(change: &Kevent) -> Knote {
        Knote {
            ident: change.ident,
            filter: change.filter,
            flags: change.flags & (kq::EV_ONESHOT | kq::EV_CLEAR),
            fflags: change.fflags,
            cookie: change.udata.addr(),
            found: Look::default(),
            is_dropped: false,
        }
    }

    fn is_about(&self, fd: RawFd) -> bool {
        self.filter != kq::EVFILT_USER && self.ident == fd as usize
    }

    /// Evaluates the filter, and activates the knote if it reports something.
    fn evaluate(&mut self, kind: Kind, profile: &Profile) {
        let found = look::look(self.ident as RawFd, kind, self.filter, self.fflags, profile);
        if found.is_active {
            self.found = found;
            // Not if it was there when the filter was added: that was refused.
            self.is_dropped = profile.drops_writer
                && found.is_eof
                && self.filter == kq::EVFILT_WRITE
                && matches!(kind, Kind::Pipe { .. });
        }
    }

    fn to_event(self) -> Kevent {
        let mut event = change(self.ident, self.filter, self.flags, self.found.fflags, 0);
        event.udata = ptr::without_provenance_mut(self.cookie);
        if self.found.is_eof {
            event.flags |= kq::EV_EOF;
        }
        if self.is_dropped {
            event.flags |= kq::EV_ONESHOT;
        }
        event
    }
}
