//! What a [`KeyedSelector`](super::KeyedSelector) keeps of a registration, and iterators over it.

use std::iter::FusedIterator;
use std::os::fd::RawFd;
use std::slice;

use slab::Slab;

use crate::{Event, Interest, Mode, Readiness, Token};

/// A registered descriptor with the data attached to it.
#[derive(Clone, Debug)]
pub struct Key<D> {
    pub(super) fd: RawFd,
    pub(super) token: Token,
    pub(super) interest: Interest,
    pub(super) mode: Mode,
    pub(super) data: D,
}

impl<D> Key<D> {
    /// Returns the descriptor's number.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Returns the token, which identifies this registration and no later one of the same number.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Returns the interest that the descriptor is registered with.
    pub fn interest(&self) -> Interest {
        self.interest
    }

    /// Returns the mode that the descriptor is registered with.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns a reference to the data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Returns a mutable reference to the data.
    pub fn data_mut(&mut self) -> &mut D {
        &mut self.data
    }

    /// Converts the key into its data.
    pub fn into_data(self) -> D {
        self.data
    }
}

/// Iterates over the keys of a [`KeyedSelector`](super::KeyedSelector).
#[derive(Clone, Debug)]
pub struct Keys<'a, D> {
    pub(super) keys: slab::Iter<'a, Key<D>>,
}

impl<'a, D> Iterator for Keys<'a, D> {
    type Item = &'a Key<D>;

    fn next(&mut self) -> Option<&'a Key<D>> {
        self.keys.next().map(|(_, key)| key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.keys.size_hint()
    }
}

impl<D> ExactSizeIterator for Keys<'_, D> {}

impl<D> FusedIterator for Keys<'_, D> {}

/// Iterates over the descriptors that one wait of a [`KeyedSelector`](super::KeyedSelector) found ready.
#[derive(Clone, Debug)]
pub struct Ready<'a, D> {
    pub(super) events: slice::Iter<'a, Event>,
    pub(super) keys: &'a Slab<Key<D>>,
}

impl<'a, D> Iterator for Ready<'a, D> {
    type Item = (&'a Key<D>, Readiness);

    fn next(&mut self) -> Option<Self::Item> {
        // A selector never reports the token of an earlier registration, but one from outside this crate
        // might.
        self.events.by_ref().find_map(|event| {
            let key = self.keys.get(event.token.slot() as usize)?;
            (key.token == event.token).then_some((key, event.readiness))
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.events.len()))
    }
}

impl<D> FusedIterator for Ready<'_, D> {}
