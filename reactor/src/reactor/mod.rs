//! A selector, a slab of sources, and the wakers of the tasks that wait for them.
//!
//! A source is registered when an operation on it would block for the first time. How it is then
//! watched depends on the selector:
//!
//! - **Edges** (epoll, kqueue): registered once, in both directions, and never modified. Readiness is
//!   remembered in the source until an operation would block. Events are only collected in
//!   [`turn`](Reactor::turn), on the thread that also performs the operations, so no edge is lost
//!   between an operation and the clearing of the readiness after it.
//! - **Levels** (select, poll): interest follows the waiters. A direction is watched when a task waits
//!   for it, and dropped when it is reported and no task waits: lazily, so a steady exchange of
//!   messages changes nothing in the set. See [`levels`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::{
    Backend, Events, Interest, Mode, Notifier, PollableFd, Readiness, Selector, SystemCalls, Token,
};

use host_timer::{HostTimer, clear_if_reported};
use levels::set_interest;
use source::Source;
use waiters::WaiterLists;

pub use collected::{Collected, Released};
pub use source::{Direction, WaiterKey};
pub use waiting::Outlook;
pub use watched::Watched;

mod watched;

mod source;

mod waiters;

mod waiting;

mod levels;

mod host_timer;

mod collected;

/// The number of events taken from the system in one turn.
///
/// Large enough that the wait is a small share of a batch, small enough that 1,024 tasks' work
/// is not done on stale readiness. The system keeps the rest for the next turn.
const EVENTS_PER_TURN: usize = 1_024;

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
    waiter_lists: WaiterLists,
    /// WaiterLists that were ready and not all woken in the last turn.
    unfinished: Vec<(Token, Direction)>,
    /// Sources that are kept out of the set for a while, and until when.
    backing_off: Vec<(Token, Instant)>,
    events: Events,
    /// What becomes readable when a timer of the loop is due, if a host asks for it.
    timer: Option<HostTimer>,
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
            waiter_lists: WaiterLists::default(),
            unfinished: Vec::new(),
            backing_off: Vec::new(),
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
    pub fn sources(&self) -> usize {
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
                source.set_closing();
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
        if self.backing_off.len() | self.unfinished.len() != 0 {
            timeout = self.end_backoffs(timeout)?;
            if self.wake_more(collected) {
                timeout = Some(Duration::ZERO);
            }
        }
        self.selector.select(&mut self.events, timeout)?;
        for event in &self.events {
            let (token, reported) = (event.token, event.readiness);
            let Some(source) = find(&mut self.sources, self.owner, token) else {
                clear_if_reported(&mut self.timer, token);
                continue;
            };
            if reported.without(Readiness::READABLE | Readiness::WRITABLE) != Readiness::NONE {
                source.set_closing();
            }
            let mut is_wanted = false;
            let mut unwanted = Interest::NONE;
            for direction in Direction::BOTH {
                if !direction.is_woken_by(reported) {
                    is_wanted |= source.has_waiter(direction);
                    continue;
                }
                source.set_ready(direction, true);
                if let Some(waker) = source.take_waiter(direction) {
                    collected.wakers.push(waker);
                    is_wanted = true;
                } else if source.has_list(direction) {
                    is_wanted = true;
                    let Reactor { waiter_lists, unfinished, .. } = self;
                    let wakers = &mut collected.wakers;
                    if !call(waiter_lists, unfinished, source, (token, direction), reported, wakers)
                    {
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

    /// Reports whether the last turn took as many events as it could, so that there may be more.
    ///
    /// Someone who watches the selector's own descriptor for edges is not reported of those.
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
    pub fn wake_more(&mut self, collected: &mut Collected) -> bool {
        let n_before = collected.wakers.len();
        let Reactor { unfinished, sources, waiter_lists, owner, .. } = self;
        unfinished.retain(|&(token, direction)| {
            find(sources, *owner, token).is_some_and(|source| {
                waiter_lists.wake_more(token.slot(), source, direction, &mut collected.wakers)
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
        let waiter_lists = Direction::BOTH.map(|direction| {
            if !source.has_list(direction) {
                return None;
            }
            self.waiter_lists.drain(slot, &mut source, direction)
        });
        Released(source, waiter_lists)
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
/// A function, so that the selector and the waiter_lists can be borrowed beside it.
#[inline]
fn find(sources: &mut Slab<Option<Source>>, owner: u16, token: Token) -> Option<&mut Source> {
    let source = sources.get_mut(token.slot() as usize)?.as_mut()?;
    (source.generation == token.generation() && token.owner() == owner).then_some(source)
}

/// Collects those of a list whom an event concerns. False if nobody was waiting.
#[cold]
#[inline(never)]
fn call(
    waiter_lists: &mut WaiterLists,
    unfinished: &mut Vec<(Token, Direction)>,
    source: &mut Source,
    (token, direction): (Token, Direction),
    reported: Readiness,
    wakers: &mut Vec<Waker>,
) -> bool {
    // The list has its own flag.
    source.set_ready(direction, false);
    let condition = direction.condition(reported);
    let (was_waited_for, is_unfinished) =
        waiter_lists.wake_for_event(token.slot(), source, direction, condition, wakers);
    if is_unfinished {
        unfinished.push((token, direction));
    }
    was_waited_for
}

fn unknown_source() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the source is not registered with this reactor")
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("backend", &self.backend())
            .field("mode", &self.mode)
            .field("sources", &self.sources())
            .finish_non_exhaustive()
    }
}
