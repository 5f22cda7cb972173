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

/// Watches descriptors, remembers their readiness, and keeps the wakers of the tasks that wait.
///
/// A reactor belongs to one event loop, which calls [`turn`](Reactor::turn). Other threads can end a turn with
/// a [`notifier`](Reactor::notifier).
///
/// No method wakes, clones or drops a waker, or drops a watched object: that runs foreign code. The
/// methods return them instead, and the loop wakes and drops them after its borrow of the reactor.
pub struct Reactor {
    selector: Box<dyn Selector>,
    mode: Mode,
    /// Whether a short read or write proves that the next operation would block.
    short_is_empty: bool,
    owner: u16,
    first_generation: u32,
    /// By slot: the generation of its next source.
    generations: Vec<u32>,
    /// `None` in a slot that has reached its last generation and is not used again.
    sources: Slab<Option<Source>>,
    n_spent: usize,
    waiter_lists: WaiterLists,
    /// Waiter lists that were ready in the last turn and still have waiters.
    unfinished: Vec<(Token, Direction)>,
    /// Sources that are left out of the set, and until when.
    backing_off: Vec<(Token, Instant)>,
    events: Events,
    /// Becomes readable when a timer of the loop is due, if a host has requested it.
    timer: Option<HostTimer>,
}

impl Reactor {
    /// Creates a reactor on top of `selector`.
    ///
    /// Its tokens contain `owner`, the number of the loop, and generations starting at `first_generation`: a
    /// loop that reuses a number continues where the last one ended.
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

    /// Returns whether the selector refuses files that are always ready: see [`Selector::refuses_files`].
    pub fn refuses_files(&self) -> bool {
        self.selector.refuses_files()
    }

    /// Returns the number at and above which descriptors are refused: see [`Selector::descriptor_limit`].
    pub fn descriptor_limit(&self) -> Option<usize> {
        self.selector.descriptor_limit()
    }

    /// Returns a handle that ends a turn from another thread.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::notifier`].
    pub fn notifier(&self) -> io::Result<Notifier> {
        self.selector.notifier()
    }

    /// Returns the selector's own descriptor: see [`Selector::pollable_fd`].
    pub fn pollable_fd(&self) -> Option<BorrowedFd<'_>> {
        self.selector.pollable_fd()
    }

    /// Appends the descriptors that a host has to watch: see [`Selector::pollable_fds`].
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if the selector cannot be watched from outside.
    pub fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        self.selector.pollable_fds(fds)
    }

    /// Returns the number of system calls of the selector so far.
    pub fn system_calls(&self) -> SystemCalls {
        self.selector.system_calls()
    }

    /// Returns a generation that no source of this reactor has had, for the next reactor of a loop with the
    /// same number.
    pub fn next_generation(&self) -> u32 {
        self.generations.iter().copied().max().unwrap_or(self.first_generation)
    }

    /// Returns the number of registered sources.
    pub fn sources(&self) -> usize {
        self.sources.len() - self.n_spent
    }

    /// Starts watching `io`. Both directions count as ready until an operation would block.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::register`]; [`OutOfMemory`](io::ErrorKind::OutOfMemory) if there are too
    /// many sources.
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
            source.registered = Interest::READABLE | Interest::WRITABLE;
            if self.short_is_empty {
                // A read stops short before out-of-band data although more data may be waiting. The edge of the
                // out-of-band data makes the reader continue.
                source.registered |= Interest::PRIORITY;
            }
            self.selector.register(source.io.as_fd(), token, source.registered, Mode::Edge)?;
            if !source.io.short_is_proof() {
                // Levels report the remaining data again.
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

    /// Stops watching a source, and returns it, to be dropped outside the borrow.
    ///
    /// Tasks that wait for it are not woken: they borrow from the owner, which releases it.
    pub fn release(&mut self, token: Token) -> Option<Released> {
        self.source(token)?;
        Some(self.remove(token.slot()))
    }

    /// Stops watching all sources, and collects them, to be dropped by [`Collected::wake_all`]. Tasks that
    /// wait for them are not woken.
    ///
    /// For the end of a loop: a shared descriptor stays open, and must not remain in a set that a host
    /// may watch.
    pub fn release_all(&mut self, collected: &mut Collected) {
        let sources = self.sources.iter().filter(|(_, source)| source.is_some());
        let slots: Vec<usize> = sources.map(|(slot, _)| slot).collect();
        collected.released.extend(slots.into_iter().map(|slot| self.remove(slot as u32)));
        if let Some(timer) = self.timer.take() {
            // It is closed next, so it does not matter whether the selector knows it.
            let _ = self.selector.unregister(timer.fd.as_fd());
        }
    }

    /// Returns whether the source `token` is registered with this reactor.
    pub fn contains(&self, token: Token) -> bool {
        self.source(token).is_some()
    }

    /// Waits up to `timeout` for sources to become ready, and collects the wakers of the tasks that wait for
    /// them.
    ///
    /// Without a timeout the wait has no limit; a timeout of zero returns at once. The caller ends its
    /// borrow of the reactor and then calls [`Collected::wake_all`].
    ///
    /// If several tasks wait for the same direction of a source, the one that has waited longest is
    /// collected. As long as the source stays ready, each further turn collects more of them and does
    /// not block.
    ///
    /// # Errors
    /// Returns the errors of [`Selector::select`]. A signal ends the turn without an error.
    pub fn turn(
        &mut self,
        mut timeout: Option<Duration>,
        collected: &mut Collected,
    ) -> io::Result<()> {
        // One test for the usual case: there is neither.
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
                    if !wake_from_list(
                        waiter_lists,
                        unfinished,
                        source,
                        (token, direction),
                        reported,
                        wakers,
                    ) {
                        unwanted |= direction.interest();
                    }
                } else {
                    unwanted |= direction.interest();
                }
            }
            if !is_wanted && !source.io.is_latest(token) {
                collected.leaving.push(token);
            } else if self.mode == Mode::Level {
                let kept = source.registered.without(unwanted);
                if kept != source.registered {
                    set_interest(&mut *self.selector, source, token, kept)?;
                }
            }
        }
        while let Some(token) = collected.leaving.pop() {
            // It may be in the list twice.
            collected.released.extend(self.release(token));
        }
        Ok(())
    }

    /// Returns whether the last turn took as many events as it could, so that there may be more.
    ///
    /// A host that watches the selector's own descriptor for edges gets no further edge for those.
    pub fn has_more(&self) -> bool {
        self.events.len() >= EVENTS_PER_TURN
    }

    /// Returns whether the next turn wakes further waiters of sources that are ready, and so does not block.
    pub fn is_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Collects further waiters of the sources that were ready in the last turn. Returns whether there were
    /// any.
    ///
    /// A turn does this first; a loop that is driven by a host does it before it returns.
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

    /// Removes a source from the slab and from the set.
    fn remove(&mut self, slot: u32) -> Released {
        let mut source = self.vacate(slot as usize).expect("the source exists");
        if !source.registered.is_empty() {
            // An error means that the selector no longer knows the descriptor, which is the purpose.
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

    /// Vacates a slot. It is used again unless it has reached its last generation.
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

/// Finds the source `token`.
///
/// A function, so that other fields of the reactor can be borrowed at the same time.
#[inline]
fn find(sources: &mut Slab<Option<Source>>, owner: u16, token: Token) -> Option<&mut Source> {
    let source = sources.get_mut(token.slot() as usize)?.as_mut()?;
    (source.generation == token.generation() && token.owner() == owner).then_some(source)
}

/// Collects waiters from a list for an event. Returns whether there were any.
#[cold]
#[inline(never)]
fn wake_from_list(
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
