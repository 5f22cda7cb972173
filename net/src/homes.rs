//! Where a descriptor is registered: with which loops, and with which of them last.
//!
//! The one part of a socket that several threads may change at once: it may be used on many loops
//! at the same time, and each that finds it unknown registers it. What must never happen is that a
//! registration is forgotten, for then it would outlive its socket. Checked by a model under
//! `--cfg loom`.

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

/// The home of a descriptor that was never registered.
pub(crate) const NOWHERE: Token = Token::from_raw(u64::MAX);

/// Remembers the registrations of one descriptor, one for each loop at most.
#[repr(C)]
pub(crate) struct Homes {
    /// Those with other loops, which may have been let go of since.
    abroad: Mutex<Vec<Token>>,
    /// The registration that was used last, or [`NOWHERE`]. Every operation reads it.
    latest: AtomicU64,
}

impl Homes {
    pub(crate) fn new() -> Homes {
        Homes { abroad: Mutex::new(Vec::new()), latest: AtomicU64::new(NOWHERE.raw()) }
    }

    /// Returns the registration that was used last.
    #[inline]
    pub(crate) fn latest(&self) -> Token {
        // Relaxed: it is a hint. A token means something only to the loop that made it, and that
        // loop wrote it.
        Token::from_raw(self.latest.load(Ordering::Relaxed))
    }

    /// Returns the registration with the loop of this number, if it is not the latest.
    pub(crate) fn abroad(&self, owner: u16) -> Option<Token> {
        self.lock().iter().copied().find(|token| token.owner() == owner)
    }

    /// Makes `token` the latest, in place of an earlier one with the same loop.
    pub(crate) fn move_to(&self, token: Token) {
        // The lock orders those who move at the same time.
        let mut abroad = self.lock();
        let old = Token::from_raw(self.latest.swap(token.raw(), Ordering::Relaxed));
        abroad.retain(|other| other.owner() != token.owner());
        if old != NOWHERE && old.owner() != token.owner() {
            abroad.push(old);
        }
    }

    /// Forgets all registrations and hands them out, to be released. Nobody may be using the
    /// descriptor any more.
    pub(crate) fn take(&self) -> Vec<Token> {
        let mut tokens = std::mem::take(&mut *self.lock());
        let latest = Token::from_raw(self.latest.swap(NOWHERE.raw(), Ordering::Relaxed));
        tokens.extend((latest != NOWHERE).then_some(latest));
        tokens
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Token>> {
        // Nothing panics while the lock is held.
        self.abroad.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_new_registration_replaces_the_old_one_of_its_loop() {
        let homes = Homes::new();
        let (first, second) = (Token::new(1, 0, 0), Token::new(1, 1, 0));
        homes.move_to(first);
        homes.move_to(Token::new(2, 0, 0));
        homes.move_to(second);
        assert_eq!(homes.latest(), second);
        assert_eq!(homes.abroad(1), None);
        assert_eq!(homes.take(), [Token::new(2, 0, 0), second]);
        assert_eq!(homes.take(), []);
    }

    #[test]
    fn a_descriptor_that_was_never_registered_has_nothing_to_release() {
        assert_eq!(Homes::new().take(), []);
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// What a loop does with a descriptor: it looks for its own registration, and makes one if
    /// there is none.
    fn use_on(homes: &Homes, owner: u16, generation: u32) -> Token {
        let latest = homes.latest();
        let known = if latest.owner() == owner && latest != NOWHERE {
            Some(latest)
        } else {
            homes.abroad(owner)
        };
        let token = known.unwrap_or(Token::new(owner, generation, 0));
        homes.move_to(token);
        token
    }

    #[test]
    fn loom_no_registration_is_forgotten_when_loops_move_at_once() {
        loom::model(|| {
            let homes = Arc::new(Homes::new());
            let threads = [1, 2].map(|owner| {
                let homes = Arc::clone(&homes);
                thread::spawn(move || {
                    let first = use_on(&homes, owner, 0);
                    let second = use_on(&homes, owner, 1);
                    assert_eq!(first, second, "registered twice with one loop");
                    second
                })
            });
            let mut expected = threads.map(|thread| thread.join().unwrap()).to_vec();
            let mut taken = homes.take();
            expected.sort_unstable();
            taken.sort_unstable();
            assert_eq!(taken, expected);
        });
    }

    #[test]
    fn loom_a_third_loop_joins_in() {
        loom::model(|| {
            let homes = Arc::new(Homes::new());
            use_on(&homes, 3, 0);
            let threads = [1, 2].map(|owner| {
                let homes = Arc::clone(&homes);
                thread::spawn(move || use_on(&homes, owner, 0))
            });
            use_on(&homes, 3, 1);
            for thread in threads {
                thread.join().unwrap();
            }
            let mut taken = homes.take();
            taken.sort_unstable();
            assert_eq!(taken, [1, 2, 3].map(|owner| Token::new(owner, 0, 0)));
        });
    }
}
