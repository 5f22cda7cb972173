//! The registrations of a descriptor, one per loop.
//!
//! This is the only part of a socket that several threads may change at the same time: a socket may be used on
//! several loops at once, and each registers it. No registration may be forgotten, or it would outlive its
//! socket. Checked by models under `--cfg loom`.

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};
use std::sync::PoisonError;
#[cfg(all(not(loom), target_has_atomic = "64"))]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

use polyloop_reactor::Token;

#[cfg(all(not(loom), not(target_has_atomic = "64")))]
use crate::wide_atomic::AtomicU64;

/// Stands for the registration of a descriptor that has none.
pub(super) const UNREGISTERED: Token = Token::from_raw(u64::MAX);

/// Stores the registrations of one descriptor, at most one per loop.
#[repr(C)]
pub(super) struct Registrations {
    /// All but the latest. Their loops may have dropped them since.
    others: Mutex<Vec<Token>>,
    /// The registration used last, or [`UNREGISTERED`]. Every operation reads it.
    latest: AtomicU64,
}

impl Registrations {
    pub(super) fn new() -> Registrations {
        Registrations { others: Mutex::new(Vec::new()), latest: AtomicU64::new(UNREGISTERED.raw()) }
    }

    /// Returns the registration used last, or [`UNREGISTERED`].
    #[inline]
    pub(super) fn latest(&self) -> Token {
        // Relaxed, since it is a hint: a token has a meaning only on the loop that created it, and that loop
        // stored it.
        Token::from_raw(self.latest.load(Ordering::Relaxed))
    }

    /// Returns the registration with the loop of this number, unless it is the latest.
    pub(super) fn other_on(&self, owner: u16) -> Option<Token> {
        self.lock().iter().copied().find(|token| token.owner() == owner)
    }

    /// Makes `token` the latest registration, replacing an earlier one with the same loop.
    pub(super) fn set_latest(&self, token: Token) {
        // The lock orders threads that do so at the same time.
        let mut others = self.lock();
        let old = Token::from_raw(self.latest.swap(token.raw(), Ordering::Relaxed));
        others.retain(|other| other.owner() != token.owner());
        if old != UNREGISTERED && old.owner() != token.owner() {
            others.push(old);
        }
    }

    /// Takes all registrations, to be released. The descriptor must no longer be in use.
    pub(super) fn take(&self) -> Vec<Token> {
        let mut tokens = std::mem::take(&mut *self.lock());
        let latest = Token::from_raw(self.latest.swap(UNREGISTERED.raw(), Ordering::Relaxed));
        tokens.extend((latest != UNREGISTERED).then_some(latest));
        tokens
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Token>> {
        // Nothing panics while the lock is held.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_new_registration_replaces_the_old_one_of_its_loop() {
        let registrations = Registrations::new();
        let (first, second) = (Token::new(1, 0, 0), Token::new(1, 1, 0));
        registrations.set_latest(first);
        registrations.set_latest(Token::new(2, 0, 0));
        registrations.set_latest(second);
        assert_eq!(registrations.latest(), second);
        assert_eq!(registrations.other_on(1), None);
        assert_eq!(registrations.take(), [Token::new(2, 0, 0), second]);
        assert_eq!(registrations.take(), []);
    }

    #[test]
    fn an_unregistered_descriptor_has_nothing_to_release() {
        assert_eq!(Registrations::new().take(), []);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Uses a descriptor as a loop does: finds its own registration, or creates one.
    fn use_on(registrations: &Registrations, owner: u16, generation: u32) -> Token {
        let latest = registrations.latest();
        let known = if latest.owner() == owner && latest != UNREGISTERED {
            Some(latest)
        } else {
            registrations.other_on(owner)
        };
        let token = known.unwrap_or(Token::new(owner, generation, 0));
        registrations.set_latest(token);
        token
    }

    #[test]
    fn loom_no_registration_is_forgotten_when_loops_register_at_once() {
        loom::model(|| {
            let registrations = Arc::new(Registrations::new());
            let threads = [1, 2].map(|owner| {
                let registrations = Arc::clone(&registrations);
                thread::spawn(move || {
                    let first = use_on(&registrations, owner, 0);
                    let second = use_on(&registrations, owner, 1);
                    assert_eq!(first, second, "registered twice with the same loop");
                    second
                })
            });
            let mut expected = threads.map(|thread| thread.join().unwrap()).to_vec();
            let mut taken = registrations.take();
            expected.sort_unstable();
            taken.sort_unstable();
            assert_eq!(taken, expected);
        });
    }

    #[test]
    fn loom_a_third_loop_registers_at_the_same_time() {
        loom::model(|| {
            let registrations = Arc::new(Registrations::new());
            use_on(&registrations, 3, 0);
            let threads = [1, 2].map(|owner| {
                let registrations = Arc::clone(&registrations);
                thread::spawn(move || use_on(&registrations, owner, 0))
            });
            use_on(&registrations, 3, 1);
            for thread in threads {
                thread.join().unwrap();
            }
            let mut taken = registrations.take();
            taken.sort_unstable();
            assert_eq!(taken, [1, 2, 3].map(|owner| Token::new(owner, 0, 0)));
        });
    }
}
