//! A selector, a slab of sources, and the wakers of whoever waits on them.
//!
//! A source is registered when an operation on it would block for the first time, and not
//! before. How it is then watched depends on what the selector can do:
//!
//! - **Edges** (epoll, kqueue): registered once, both ways, and never modified. Readiness is
//!   remembered in the source until an operation would block. Events are only collected in
//!   [`turn`](Reactor::turn), on the thread that also performs the operations, so no edge falls
//!   between an operation and the forgetting that follows it.
//! - **Levels** (select, poll): interest follows the waiters. A direction is watched once
//!   somebody waits for it, and dropped when it reports and nobody does: lazily, so a steady
//!   exchange of messages changes nothing in the set.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::crowd::{Crowd, Crowds};
use crate::source::{Source, WaiterKey};
use crate::sys::socket::kind::has_pending_error;
use crate::sys::timer::TimerFd;
use crate::{
    Backend, Direction, Events, Interest, Mode, Notifier, PollableFd, Readiness, Selector,
    SystemCalls, Token,
};

/// The number of events taken from the system in one turn.
///
/// Large enough that the wait is a small share of a batch, small enough that 1,024 tasks' work
/// is not done on stale readiness. The system keeps the rest for the next turn.
const EVENTS_PER_TURN: usize = 1_024;

/// How long a source rests that reports an error in vain: what else it has to report is late by as
/// much, and it costs 200 turns a second.
const REST: Duration = Duration::from_millis(5);

/// Owns something with a descriptor that a reactor can watch.
///
/// The reactor shares the ownership for as long as the descriptor is registered.
pub trait Watched: AsFd + Send + Sync {
    /// Reports whether `token` is the registration that this object used last.
    ///
    /// One that was used on another loop since, and that nobody waits for here, is dropped when
    /// it reports.
    fn is_latest(&self, token: Token) -> bool;

    /// Reports whether an operation that moves less than it was asked to proves that the next one
    /// would block: see [`Kind::short_is_proof`](crate::socket::Kind::short_is_proof).
    ///
    /// Asked once, when the object is registered.
    fn short_is_proof(&self) -> bool {
        true
    }
}

/// Says what is known of an operation before it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The source is not registered here.
    Unknown,
    /// It is worth trying: nothing says that it would block.
    Ready,
    /// It would block.
    Blocks,
}

/// Watches descriptors, remembers what they are ready for, and wakes those who wait.
///
/// It belongs to one loop, which calls [`turn`](Reactor::turn); [`notifier`](Reactor::notifier)
/// is the one part for other threads. No method wakes, clones or drops a waker, or drops what it
/// watches: that is foreign code, and the loop runs it when its borrow of the reactor has ended.
pub struct Reactor {
    selector: Box<dyn Selector>,
    mode: Mode,
    /// Whether less than was asked for proves that the next operation would block.
    short_is_empty: bool,
    owner: u16,
    first_generation: u32,
    /// By slot: the generation of its next tenant.
    generations: Vec<u32>,
    /// None in a slot that has had its last generation, which is never used again.
    sources: Slab<Option<Source>>,
    n_spent: usize,
    crowds: Crowds,
    /// Crowds that were ready and not all woken in the last turn.
    unfinished: Vec<(Token, Direction)>,
    /// Sources that are kept out of the set for a while, and until when.
    resting: Vec<(Token, Instant)>,
    events: Events,
    /// What becomes readable when a timer of the loop is due, if a host asks for it.
    timer: Option<HostTimer>,
}

/// A timer in the selector's set, as a source is.
struct HostTimer {
    fd: TimerFd,
    token: Token,
    /// When it becomes readable, unless a turn has seen it.
    deadline: Option<Instant>,
}

impl Reactor {
    /// Puts a reactor on top of `selector`.
    ///
    /// Its tokens carry `owner`, the number of the loop, and generations from `first_generation`
    /// on: a loop that reuses a number begins where the last one ended.
    pub fn new(selector: Box<dyn Selector>, owner: u16, first_generation: u32) -> Reactor {
        let mode = if selector.supports(Mode::Edge) { Mode::Edge } else { Mode::Level };
        Reactor {
            short_is_empty: mode == Mode::Level || selector.short_read_is_empty(),
            selector,
            mode,
            owner,
            first_generation,
            generations: Vec::new(),
            sources: Slab::new(),
            n_spent: 0,
            crowds: Crowds::default(),
            unfinished: Vec::new(),
            resting: Vec::new(),
            events: Events::with_capacity(EVENTS_PER_TURN),
            timer: None,
        }
    }

    /// Returns the selector's backend.
    pub fn backend(&self) -> Backend {
        self.selector.backend()
    }

    /// Reports whether the selector refuses what is always ready, such as a file on a disk.
    pub fn refuses_files(&self) -> bool {
        self.selector.refuses_files()
    }

    /// Returns the number from which on the selector refuses descriptors, if there is one.
    pub fn descriptor_limit(&self) -> Option<usize> {
        self.selector.descriptor_limit()
    }

    /// Returns a handle that ends a turn from another thread.
    ///
    /// # Errors
    /// See [`Selector::notifier`].
    pub fn notifier(&self) -> io::Result<Notifier> {
        self.selector.notifier()
    }

    /// Lends the selector's own descriptor, where it has one.
    pub fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.selector.pollable_fd()
    }

    /// Adds the descriptors to `fds` that a host has to watch: see [`Selector::pollable_fds`].
    ///
    /// # Errors
    /// `Unsupported` if the selector cannot be watched from outside.
    pub fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        self.selector.pollable_fds(fds)
    }

    /// Adds a timer to the set, so that a host which watches the set need not wait for deadlines. It
    /// is set by [`set_timer`](Reactor::set_timer).
    ///
    /// # Errors
    /// If no descriptor is left; any error of the selector.
    pub fn open_timer(&mut self) -> io::Result<()> {
        if self.timer.is_none() {
            let fd = TimerFd::new()?;
            // Of another owner than all sources.
            let token = Token::new(self.owner ^ 1, 0, 0);
            self.selector.register(fd.as_fd(), token, Interest::READABLE, Mode::Level)?;
            self.timer = Some(HostTimer { fd, token, deadline: None });
        }
        Ok(())
    }

    /// Makes the set report an event at `deadline`, if there is a timer in it. Such an event wakes
    /// no task; the turn that sees it takes it away.
    ///
    /// A timer that is set for an earlier time stays as it is, which spares a system call for each
    /// deadline that is moved back or cancelled and costs one turn in vain.
    ///
    /// # Errors
    /// What the system reports.
    pub fn set_timer(&mut self, deadline: Instant) -> io::Result<()> {
        let Some(timer) = &mut self.timer else { return Ok(()) };
        if timer.deadline.is_some_and(|earlier| earlier <= deadline) {
            return Ok(());
        }
        timer.fd.set(Some(deadline.saturating_duration_since(Instant::now())))?;
        timer.deadline = Some(deadline);
        Ok(())
    }

    /// Counts the selector's system calls.
    pub fn system_calls(&self) -> SystemCalls {
        self.selector.system_calls()
    }

    /// Returns a generation that no source here has had, for a reactor that takes over the number of
    /// this one's loop.
    pub fn next_generation(&self) -> u32 {
        self.generations.iter().copied().max().unwrap_or(self.first_generation)
    }

    /// Returns the number of registered sources.
    pub fn n_sources(&self) -> usize {
        self.sources.len() - self.n_spent
    }

    /// Begins to watch `io`. Both directions count as ready until an operation would block.
    ///
    /// # Errors
    /// What the selector says: `AlreadyExists` if the descriptor is registered under another
    /// object, `EPERM` for a regular file under epoll.
    pub fn register(&mut self, io: Arc<dyn Watched>) -> io::Result<Token> {
        let slot = self.sources.vacant_key();
        if slot > Token::MAX_SLOT as usize {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "a loop watches 16,777,216 descriptors at most",
            ));
        }
        let generation = self.generations.get(slot).copied().unwrap_or(self.first_generation);
        let token = Token::new(self.owner, generation, slot as u32);
        let mut source = Source::new(token.generation(), io);
        if self.mode == Mode::Edge {
            source.armed = Interest::READABLE | Interest::WRITABLE;
            if self.short_is_empty {
                // A read stops short before urgent data, which is no proof that nothing is left;
                // the edge of the urgent data makes it go on.
                source.armed |= Interest::PRIORITY;
            }
            self.selector.register(source.io.as_fd(), token, source.armed, Mode::Edge)?;
            if !source.io.short_is_proof() {
                // Where there are only levels, what is left is reported again.
                source.set_hung_up();
            }
        }
        match self.generations.get_mut(slot) {
            Some(next) => *next = generation + 1,
            None => self.generations.push(generation + 1),
        }
        self.sources.insert(Some(source));
        Ok(token)
    }

    /// Stops watching a source, and hands it out to be dropped outside the borrow.
    ///
    /// Whoever still waits on it is not woken: it is released by its owner, whom they borrow from.
    pub fn release(&mut self, token: Token) -> Option<Released> {
        self.source(token)?;
        Some(self.remove(token.slot()))
    }

    /// Stops watching all sources, and hands them out to be dropped by [`Collected::wake_all`]. Those
    /// who wait on them are not woken.
    ///
    /// For a loop that ends: a descriptor that others share goes on, and must not be left in a
    /// selector that others may watch.
    pub fn release_all(&mut self, collected: &mut Collected) {
        let sources = self.sources.iter().filter(|(_, source)| source.is_some());
        let slots: Vec<usize> = sources.map(|(slot, _)| slot).collect();
        collected.released.extend(slots.into_iter().map(|slot| self.remove(slot as u32)));
        if let Some(timer) = self.timer.take() {
            // It is about to be closed, so it does not matter if the selector has lost it.
            let _ = self.selector.unregister(timer.fd.as_fd());
        }
    }

    /// Reports whether `token` is registered here.
    pub fn contains(&self, token: Token) -> bool {
        self.source(token).is_some()
    }

    /// Says whether an operation in `direction` is worth trying, and leaves `waker` to be woken if
    /// it is not.
    ///
    /// Without a waker nobody is woken. Apart from that, `key` and `waker` are those of
    /// [`wait`](Reactor::wait). If `key` is not none once the operation is worth trying, it stands
    /// for a place to come back to, or to [`forget`](Reactor::forget).
    ///
    /// # Errors
    /// What the selector says when interest has to be added.
    #[inline]
    pub fn poll_ready(
        &mut self,
        token: Token,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> io::Result<Outlook> {
        let Some(source) = find(&mut self.sources, self.owner, token) else {
            return Ok(Outlook::Unknown);
        };
        if source.is_ready(direction) {
            // Whoever waited was woken, so there is no place to give back.
            *key = None;
            return Ok(Outlook::Ready);
        }
        if !source.is_crowded(direction) {
            if waker.is_none() {
                return Ok(Outlook::Blocks);
            }
            if self.mode == Mode::Level {
                arm(&mut *self.selector, &mut self.resting, source, token, direction)?;
            }
            if source.put_waiter(direction, key, waker) {
                return Ok(Outlook::Blocks);
            }
        }
        self.poll_crowd(token, direction, key, waker)
    }

    /// Does the rest of [`poll_ready`](Reactor::poll_ready) where several wait.
    #[cold]
    #[inline(never)]
    fn poll_crowd(
        &mut self,
        token: Token,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> io::Result<Outlook> {
        if self.crowds.poll(token.slot(), direction, *key) {
            return Ok(Outlook::Ready);
        }
        if waker.is_some() {
            *key = Some(self.wait(token, direction, *key, waker)?);
        }
        Ok(Outlook::Blocks)
    }

    /// Notes that an operation in `direction` would have blocked.
    #[inline]
    pub fn clear_ready(&mut self, token: Token, direction: Direction) {
        self.note_blocked(token, direction, false);
    }

    /// Notes that an operation on a byte stream moved less than it was asked to.
    ///
    /// That proves that the next one would block, so it need not be tried, unless a hang-up was
    /// seen (the end of the stream is then waiting behind the data), or the selector or the watched
    /// object says that it proves nothing ([`Selector::short_read_is_empty`],
    /// [`Watched::short_is_proof`]).
    #[inline]
    pub fn note_short(&mut self, token: Token, direction: Direction) {
        self.note_blocked(token, direction, true);
    }

    /// Does both of the above: `is_short` tells which.
    #[inline]
    pub fn note_blocked(&mut self, token: Token, direction: Direction, is_short: bool) {
        if is_short && !self.short_is_empty {
            return;
        }
        if let Some(source) = find(&mut self.sources, self.owner, token) {
            if source.is_hung_up_or_crowded(direction) {
                self.clear_ready_unless_hung_up(token, direction, is_short);
            } else {
                source.set_ready(direction, false);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn clear_ready_unless_hung_up(&mut self, token: Token, direction: Direction, is_short: bool) {
        let Some(source) = find(&mut self.sources, self.owner, token) else { return };
        if !(is_short && source.has_hung_up()) {
            source.set_ready(direction, false);
            self.crowds.clear_ready(token.slot(), direction);
        }
    }

    /// Leaves `waker` to be woken when `direction` is ready.
    ///
    /// `key` names the place of an earlier call by the same waiter. What is left in `waker` is to
    /// be dropped outside the borrow: the waker that was replaced, or after an error the new one.
    ///
    /// # Errors
    /// What the selector says when interest has to be added.
    ///
    /// # Panics
    /// If `waker` is none.
    #[track_caller]
    pub fn wait(
        &mut self,
        token: Token,
        direction: Direction,
        mut key: Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> io::Result<WaiterKey> {
        assert!(waker.is_some(), "a waiter brings a waker");
        let source = find(&mut self.sources, self.owner, token).ok_or_else(unknown_source)?;
        if self.mode == Mode::Level {
            arm(&mut *self.selector, &mut self.resting, source, token, direction)?;
        }
        if source.is_crowded(direction) || !source.put_waiter(direction, &mut key, waker) {
            key = Some(self.crowds.join(token.slot(), source, direction, key, waker));
        }
        Ok(key.expect("a place was found"))
    }

    /// Takes back a waiter that is no longer interested.
    ///
    /// If it was woken already, others that wait are woken in its stead.
    pub fn forget(&mut self, token: Token, direction: Direction, key: WaiterKey) -> Option<Waker> {
        let source = find(&mut self.sources, self.owner, token)?;
        if source.is_crowded(direction) {
            return self.crowds.remove(token.slot(), source, direction, key);
        }
        if source.latest_key(direction) == key { source.take_waiter(direction) } else { None }
    }

    /// Lists whoever waits: for which descriptor, in which direction, and the waker that they left.
    ///
    /// O(sources), for those who want to see what a loop is waiting for.
    pub fn waiters(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Direction, &Waker)> {
        let sources = self.sources.iter();
        let sources = sources.filter_map(|(slot, source)| Some((slot, source.as_ref()?)));
        sources.flat_map(move |(slot, source)| {
            Direction::BOTH.into_iter().flat_map(move |direction| {
                let crowd = self.crowds.of(slot as u32, direction);
                let wakers = source.waiter(direction).into_iter().chain(crowd);
                wakers.map(move |waker| (source.io.as_fd(), direction, waker))
            })
        })
    }

    /// Waits up to `timeout` for a source to be ready, and collects whoever waits on it.
    ///
    /// `None` waits for ever, zero only looks. The caller ends its borrow of the reactor and then
    /// calls [`Collected::wake_all`].
    ///
    /// Of several who wait for the same, the one that came first is collected. For as long as the
    /// source stays ready, each further turn collects more of them, and does not wait.
    ///
    /// # Errors
    /// Whatever the selector reports. A signal ends the turn without an event and without an
    /// error.
    pub fn turn(
        &mut self,
        mut timeout: Option<Duration>,
        collected: &mut Collected,
    ) -> io::Result<()> {
        // One test for the usual case, that there is neither.
        if self.resting.len() | self.unfinished.len() != 0 {
            timeout = self.end_rests(timeout)?;
            if self.call_more(collected) {
                timeout = Some(Duration::ZERO);
            }
        }
        self.selector.select(&mut self.events, timeout)?;
        for event in &self.events {
            let (token, told) = (event.token, event.readiness);
            let Some(source) = find(&mut self.sources, self.owner, token) else {
                silence(&mut self.timer, token);
                continue;
            };
            if told.without(Readiness::READABLE | Readiness::WRITABLE) != Readiness::NONE {
                source.set_hung_up();
            }
            let mut is_wanted = false;
            let mut unwanted = Interest::NONE;
            for direction in Direction::BOTH {
                if !direction.is_woken_by(told) {
                    is_wanted |= source.has_waiter(direction);
                    continue;
                }
                source.set_ready(direction, true);
                if let Some(waker) = source.take_waiter(direction) {
                    collected.wakers.push(waker);
                    is_wanted = true;
                } else if source.is_crowded(direction) {
                    is_wanted = true;
                    let Reactor { crowds, unfinished, .. } = self;
                    let wakers = &mut collected.wakers;
                    if !call(crowds, unfinished, source, (token, direction), told, wakers) {
                        unwanted |= direction.interest();
                    }
                } else {
                    unwanted |= direction.interest();
                }
            }
            if !is_wanted && !source.io.is_latest(token) {
                collected.leaving.push(token);
            } else if self.mode == Mode::Level {
                let kept = source.armed.without(unwanted);
                if kept != source.armed {
                    set_interest(&mut *self.selector, source, token, kept)?;
                }
            }
        }
        while let Some(token) = collected.leaving.pop() {
            // Two events may have said the same.
            collected.released.extend(self.release(token));
        }
        Ok(())
    }

    /// Watches the sources again whose rest is over, and returns how long a turn may wait.
    #[cold]
    #[inline(never)]
    fn end_rests(&mut self, timeout: Option<Duration>) -> io::Result<Option<Duration>> {
        if self.resting.is_empty() {
            return Ok(timeout);
        }
        let now = Instant::now();
        let mut timeout = timeout;
        let mut outcome = Ok(());
        let Reactor { selector, sources, resting, owner, .. } = self;
        resting.retain(|&(token, end)| {
            let Some(source) = find(sources, *owner, token) else { return false };
            let left = end.saturating_duration_since(now);
            if !left.is_zero() {
                timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
                return true;
            }
            source.set_resting(false);
            let waited_for = Direction::BOTH.into_iter().filter(|way| source.has_waiter(*way));
            let wanted = waited_for.fold(Interest::NONE, |all, way| all | way.interest());
            if let Err(error) = set_interest(&mut **selector, source, token, wanted) {
                outcome = Err(error);
            }
            false
        });
        outcome.map(|()| timeout)
    }

    /// Returns when the first of the sources that rest is watched again, which a turn sees to. A
    /// source rests while it reports an error that no operation finds.
    pub fn next_rest_end(&self) -> Option<Instant> {
        // All rest equally long, and those that came later are behind.
        self.resting.first().map(|&(_, end)| end)
    }

    /// Reports whether the last turn took as many events as it could, so that there may be more.
    ///
    /// Someone who watches the selector's own descriptor for edges is not told of those.
    pub fn has_more(&self) -> bool {
        self.events.len() >= EVENTS_PER_TURN
    }

    /// Reports whether the next turn will wake more of those who wait, without waiting itself.
    pub fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Collects more of those whose sources were ready in the last turn. True if there were any.
    ///
    /// A turn does it first; a loop that is driven by a host does it before it returns to it.
    #[cold]
    #[inline(never)]
    pub fn call_more(&mut self, collected: &mut Collected) -> bool {
        let n_before = collected.wakers.len();
        let Reactor { unfinished, sources, crowds, owner, .. } = self;
        unfinished.retain(|&(token, direction)| {
            find(sources, *owner, token).is_some_and(|source| {
                crowds.call_more(token.slot(), source, direction, &mut collected.wakers)
            })
        });
        collected.wakers.len() > n_before
    }

    /// Takes a source out of the slab and out of the set.
    fn remove(&mut self, slot: u32) -> Released {
        let mut source = self.vacate(slot as usize).expect("what is removed is there");
        if !source.armed.is_empty() {
            // The selector can only say that it does not know the descriptor any more, which is
            // what was wanted.
            let _ = self.selector.unregister(source.io.as_fd());
        }
        let crowds = Direction::BOTH.map(|direction| {
            if !source.is_crowded(direction) {
                return None;
            }
            self.crowds.disperse(slot, &mut source, direction)
        });
        Released(source, crowds)
    }

    /// Empties a slot, for another tenant unless this was the last that it may have.
    fn vacate(&mut self, slot: usize) -> Option<Source> {
        if self.generations[slot] < Token::MAX_GENERATION {
            return self.sources.remove(slot);
        }
        self.n_spent += 1;
        self.sources[slot].take()
    }

    fn source(&self, token: Token) -> Option<&Source> {
        let source = self.sources.get(token.slot() as usize)?.as_ref()?;
        (source.generation == token.generation() && token.owner() == self.owner).then_some(source)
    }
}

/// Finds the source that `token` names.
///
/// A function, so that the selector and the crowds can be borrowed beside it.
#[inline]
fn find(sources: &mut Slab<Option<Source>>, owner: u16, token: Token) -> Option<&mut Source> {
    let source = sources.get_mut(token.slot() as usize)?.as_mut()?;
    (source.generation == token.generation() && token.owner() == owner).then_some(source)
}

/// Unsets the timer if it is what an event reports.
#[cold]
#[inline(never)]
fn silence(timer: &mut Option<HostTimer>, token: Token) {
    if let Some(timer) = timer
        && timer.token == token
    {
        timer.deadline = None;
        // It fails for no timer that could be set before; it would be reported again.
        let _ = timer.fd.set(None);
    }
}

/// Collects those of a crowd whom an event concerns. False if nobody was waiting.
#[cold]
#[inline(never)]
fn call(
    crowds: &mut Crowds,
    unfinished: &mut Vec<(Token, Direction)>,
    source: &mut Source,
    (token, direction): (Token, Direction),
    told: Readiness,
    wakers: &mut Vec<Waker>,
) -> bool {
    // The crowd has its own flag.
    source.set_ready(direction, false);
    let trouble = direction.trouble(told);
    let (was_waited_for, is_unfinished) =
        crowds.call_for_event(token.slot(), source, direction, trouble, wakers);
    if is_unfinished {
        unfinished.push((token, direction));
    }
    was_waited_for
}

/// Makes sure that a level-triggered selector watches `direction`.
fn arm(
    selector: &mut dyn Selector,
    resting: &mut Vec<(Token, Instant)>,
    source: &mut Source,
    token: Token,
    direction: Direction,
) -> io::Result<()> {
    let wanted = source.armed | direction.interest();
    if wanted == source.armed {
        if source.is_due_for_doubt() {
            return doubt(selector, resting, source, token);
        }
        return Ok(());
    }
    if source.is_resting() {
        return Ok(());
    }
    set_interest(selector, source, token, wanted)
}

/// Lets a source rest that reports an error which no operation finds.
///
/// Whoever waits has tried and found nothing, so an error that is pending now is one that stays: the
/// error queue of a socket (`IP_RECVERR` on Linux), which only the program can read. The level of an
/// error cannot be masked, so every wait would end at once.
#[cold]
#[inline(never)]
fn doubt(
    selector: &mut dyn Selector,
    resting: &mut Vec<(Token, Instant)>,
    source: &mut Source,
    token: Token,
) -> io::Result<()> {
    let is_in_vain = has_pending_error(source.io.as_fd());
    source.set_doubted(is_in_vain);
    if is_in_vain {
        set_interest(selector, source, token, Interest::NONE)?;
        source.set_resting(true);
        resting.push((token, Instant::now() + REST));
    }
    Ok(())
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("backend", &self.backend())
            .field("mode", &self.mode)
            .field("n_sources", &self.n_sources())
            .finish_non_exhaustive()
    }
}

/// Brings a level-triggered source's place in the set in line with what is wanted.
fn set_interest(
    selector: &mut dyn Selector,
    source: &mut Source,
    token: Token,
    wanted: Interest,
) -> io::Result<()> {
    let fd = source.io.as_fd();
    match (source.armed.is_empty(), wanted.is_empty()) {
        (true, true) => {}
        (true, false) => selector.register(fd, token, wanted, Mode::Level)?,
        (false, false) => selector.modify(fd, token, wanted, Mode::Level)?,
        (false, true) => selector.unregister(fd)?,
    }
    source.armed = wanted;
    Ok(())
}

fn unknown_source() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the source is not registered with this reactor")
}

/// Holds a source that is no longer watched, until it can be dropped.
#[derive(Debug)]
#[must_use = "drop it when no borrow of the reactor is alive"]
pub struct Released(
    #[expect(dead_code, reason = "held only to be dropped")] Source,
    #[expect(dead_code, reason = "held only to be dropped")] [Option<Crowd>; 2],
);

/// Gathers in one turn what may only be done after it: wakers to wake, sources to drop.
///
/// It is kept from turn to turn, so that gathering allocates nothing in the long run.
#[derive(Debug, Default)]
pub struct Collected {
    wakers: Vec<Waker>,
    leaving: Vec<Token>,
    released: Vec<Released>,
}

impl Collected {
    /// Leaves only those to be woken for which `keep` says so, in their order.
    ///
    /// A loop takes its own tasks out, which it wakes in a simpler way.
    pub fn retain_wakers(&mut self, mut keep: impl FnMut(&Waker) -> bool) {
        // Mostly none is kept, and `clear` is simpler than `retain`.
        match self.wakers.iter().position(&mut keep) {
            None => self.wakers.clear(),
            Some(n_taken) => self.retain_after(n_taken, keep),
        }
    }

    /// Does so for those after the first `n_taken`, of which none was kept, and the one behind them,
    /// which is kept.
    #[cold]
    fn retain_after(&mut self, n_taken: usize, mut keep: impl FnMut(&Waker) -> bool) {
        self.wakers.drain(..n_taken);
        let mut is_first = true;
        self.wakers.retain(|waker| mem::take(&mut is_first) || keep(waker));
    }

    /// Reports whether there is no waker to wake and nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.released.is_empty()
    }

    /// Wakes those who wait, in the order of the events, and drops what was released.
    ///
    /// A waker or a destructor that panics is told of by the panic hook and keeps nobody else
    /// from being woken.
    pub fn wake_all(&mut self) {
        self.wakers.reverse();
        while !self.wakers.is_empty() {
            // The one who panicked is no longer in the list.
            quietly(|| {
                while let Some(waker) = self.wakers.pop() {
                    waker.wake();
                }
            });
        }
        while !self.released.is_empty() {
            quietly(|| {
                while let Some(released) = self.released.pop() {
                    drop(released);
                }
            });
        }
    }
}

/// Runs foreign code whose panic has no one to go to; the panic hook has reported it.
fn quietly(foreign: impl FnOnce()) {
    let Err(payload) = catch_unwind(AssertUnwindSafe(foreign)) else { return };
    // The payload is foreign as well: its destructor may panic in turn, with another one.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    /// Names a waker, and tells of its wake.
    struct Named(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn wakers_that_are_kept_are_asked_for_once_and_woken_in_their_order() {
        // Each bit of `kept` says whether one of five is kept.
        for kept in 0..32_u32 {
            let is_kept = |index: usize| kept >> index & 1 == 1;
            let woken = Arc::new(Mutex::new(Vec::new()));
            let mut collected = Collected::default();
            for index in 0..5 {
                collected.wakers.push(Arc::new(Named(index, Arc::clone(&woken))).into());
            }
            let mut asked = 0;
            collected.retain_wakers(|_| {
                asked += 1;
                is_kept(asked - 1)
            });
            assert_eq!((asked, collected.is_empty()), (5, kept == 0));
            collected.wake_all();
            assert!(collected.is_empty());
            assert!((0..5).filter(|index| is_kept(*index)).eq(woken.lock().unwrap().drain(..)));
        }
    }
}
