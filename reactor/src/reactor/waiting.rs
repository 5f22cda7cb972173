//! Waiting for a source, and what an operation reports back to the reactor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Waker;

use super::levels::arm;
use super::{Reactor, WaiterKey, find, unknown_source};
use crate::{Direction, Mode, Token};
#[cfg(doc)]
use crate::{Selector, Watched};

/// What the reactor knows about an operation before it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The source is not registered here.
    Unknown,
    /// It may succeed: try it.
    Ready,
    /// It would block.
    Blocks,
}

impl Reactor {
    /// Returns whether to try an operation in `direction`. If it would block, stores `waker`.
    ///
    /// Without a waker, only checks. Otherwise `key` and `waker` are those of [`wait`](Reactor::wait). If
    /// the result is [`Ready`](Outlook::Ready) and `key` is not `None`, the waiter keeps its place in the queue,
    /// to wait again or to be [forgotten](Reactor::forget).
    ///
    /// # Errors
    /// Returns the errors of [`Selector::register`] and [`Selector::modify`], if the interest has to change.
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
            // All waiters have been woken, so the key is no longer valid.
            *key = None;
            return Ok(Outlook::Ready);
        }
        if !source.has_list(direction) {
            if waker.is_none() {
                return Ok(Outlook::Blocks);
            }
            if self.mode == Mode::Level {
                arm(&mut *self.selector, &mut self.backing_off, source, token, direction)?;
            }
            if source.put_waiter(direction, key, waker) {
                return Ok(Outlook::Blocks);
            }
        }
        self.poll_list(token, direction, key, waker)
    }

    /// Implements [`poll_ready`](Reactor::poll_ready) for several waiters.
    #[cold]
    #[inline(never)]
    fn poll_list(
        &mut self,
        token: Token,
        direction: Direction,
        key: &mut Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> io::Result<Outlook> {
        if self.waiter_lists.poll(token.slot(), direction, *key) {
            return Ok(Outlook::Ready);
        }
        if waker.is_some() {
            *key = Some(self.wait(token, direction, *key, waker)?);
        }
        Ok(Outlook::Blocks)
    }

    /// Records that an operation in `direction` would have blocked.
    #[inline]
    pub fn clear_ready(&mut self, token: Token, direction: Direction) {
        self.note_blocked(token, direction, false);
    }

    /// Records that an operation on a byte stream has transferred less than requested.
    ///
    /// That proves that the next one would block, so that it need not be tried, unless a hang-up has been
    /// reported (the end of the stream then follows the data), or the selector or the watched
    /// object do not guarantee it ([`Selector::short_read_is_empty`], [`Watched::short_is_proof`]).
    #[inline]
    pub fn note_short(&mut self, token: Token, direction: Direction) {
        self.note_blocked(token, direction, true);
    }

    /// Does what [`note_short`](Reactor::note_short) does if `is_short`, and what
    /// [`clear_ready`](Reactor::clear_ready) does otherwise.
    #[inline]
    pub fn note_blocked(&mut self, token: Token, direction: Direction, is_short: bool) {
        if is_short && !self.short_is_empty {
            return;
        }
        if let Some(source) = find(&mut self.sources, self.owner, token) {
            if source.is_closing_or_has_list(direction) {
                self.clear_ready_unless_closing(token, direction, is_short);
            } else {
                source.set_ready(direction, false);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn clear_ready_unless_closing(&mut self, token: Token, direction: Direction, is_short: bool) {
        let Some(source) = find(&mut self.sources, self.owner, token) else { return };
        if !(is_short && source.is_closing()) {
            source.set_ready(direction, false);
            self.waiter_lists.clear_ready(token.slot(), direction);
        }
    }

    /// Stores `waker`, to be woken when `direction` is ready. Returns the key of the waiter.
    ///
    /// `key` is the key of an earlier call for the same waiter. Drop what is left in `waker` outside the
    /// borrow: the waker that was replaced, or the new one after an error.
    ///
    /// # Errors
    /// [`NotFound`](io::ErrorKind::NotFound) if the source is not registered. Otherwise the errors of
    /// [`Selector::register`] and [`Selector::modify`], if the interest has to change.
    ///
    /// # Panics
    /// Panics if `waker` is `None`.
    #[track_caller]
    pub fn wait(
        &mut self,
        token: Token,
        direction: Direction,
        mut key: Option<WaiterKey>,
        waker: &mut Option<Waker>,
    ) -> io::Result<WaiterKey> {
        assert!(waker.is_some(), "a waiter has a waker");
        let source = find(&mut self.sources, self.owner, token).ok_or_else(unknown_source)?;
        if self.mode == Mode::Level {
            arm(&mut *self.selector, &mut self.backing_off, source, token, direction)?;
        }
        if source.has_list(direction) || !source.put_waiter(direction, &mut key, waker) {
            key = Some(self.waiter_lists.join(token.slot(), source, direction, key, waker));
        }
        Ok(key.expect("a place was found"))
    }

    /// Removes a waiter that no longer waits, and returns its waker.
    ///
    /// If it has been woken already, the next turn wakes other waiters, unless the source is no longer ready.
    pub fn forget(&mut self, token: Token, direction: Direction, key: WaiterKey) -> Option<Waker> {
        let source = find(&mut self.sources, self.owner, token)?;
        if source.has_list(direction) {
            return self.waiter_lists.remove(token.slot(), source, direction, key);
        }
        if source.latest_key(direction) == key { source.take_waiter(direction) } else { None }
    }

    /// Iterates over all waiters: the descriptor, the direction and the waker of each.
    ///
    /// Takes O(sources) steps. For inspection.
    pub fn waiters(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Direction, &Waker)> {
        let sources = self.sources.iter();
        let sources = sources.filter_map(|(slot, source)| Some((slot, source.as_ref()?)));
        sources.flat_map(move |(slot, source)| {
            Direction::BOTH.into_iter().flat_map(move |direction| {
                let list = self.waiter_lists.of(slot as u32, direction);
                let wakers = source.waiter(direction).into_iter().chain(list);
                wakers.map(move |waker| (source.io.as_fd(), direction, waker))
            })
        })
    }
}
