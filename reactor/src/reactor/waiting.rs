//! Waiting for a source: [`Reactor::poll_ready`] and what an operation reports back.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Waker;

use super::levels::arm;
use super::{Reactor, WaiterKey, find, unknown_source};
use crate::{Direction, Mode, Token};

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

impl Reactor {
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

    /// Does the rest of [`poll_ready`](Reactor::poll_ready) where several wait.
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
            arm(&mut *self.selector, &mut self.backing_off, source, token, direction)?;
        }
        if source.has_list(direction) || !source.put_waiter(direction, &mut key, waker) {
            key = Some(self.waiter_lists.join(token.slot(), source, direction, key, waker));
        }
        Ok(key.expect("a place was found"))
    }

    /// Takes back a waiter that is no longer interested.
    ///
    /// If it was woken already, others that wait are woken in its stead.
    pub fn forget(&mut self, token: Token, direction: Direction, key: WaiterKey) -> Option<Waker> {
        let source = find(&mut self.sources, self.owner, token)?;
        if source.has_list(direction) {
            return self.waiter_lists.remove(token.slot(), source, direction, key);
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
                let list = self.waiter_lists.of(slot as u32, direction);
                let wakers = source.waiter(direction).into_iter().chain(list);
                wakers.map(move |waker| (source.io.as_fd(), direction, waker))
            })
        })
    }
}
