//! Cloning, waking and dropping a waker: directly if it is one of this crate, and catching panics if it is foreign.

use std::task::Waker;

use polyloop_reactor::Token;

use crate::catch::quietly;
use crate::raw::waker::{clone_own, drop_own, id_of, wake};

/// Returns the task that `waker` wakes if it belongs to the loop `owner`, or else the waker.
#[inline]
pub(crate) fn into_id(waker: Waker, owner: u16) -> Result<Token, Waker> {
    match id_of(&waker) {
        Some(id) if id.owner() == owner => {
            drop_own(waker);
            Ok(id)
        }
        _ => Err(waker),
    }
}

/// Drops a waker. A panic of a foreign one is caught.
#[inline]
pub(crate) fn drop_of(waker: Option<Waker>) {
    match waker {
        Some(waker) if id_of(&waker).is_some() => drop_own(waker),
        None => {}
        foreign => quietly(|| drop(foreign)),
    }
}

/// Wakes a task. A panic of a foreign waker is caught, because it must not prevent other wakes or end the task that wakes
/// it.
#[inline]
pub(crate) fn wake_of(waker: Waker) {
    match id_of(&waker) {
        Some(id) => {
            drop_own(waker);
            wake(id);
        }
        None => wake_foreign(waker),
    }
}

#[cold]
fn wake_foreign(waker: Waker) {
    quietly(|| waker.wake());
}

/// Clones a waker.
#[inline]
pub(crate) fn clone_of(waker: &Waker) -> Waker {
    clone_if_own(waker).unwrap_or_else(|| waker.clone())
}

/// Clones a waker if it is one of this crate, which runs no foreign code.
#[inline]
pub(crate) fn clone_if_own(waker: &Waker) -> Option<Waker> {
    id_of(waker).map(|id| clone_own(waker, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::waker::lend_waker;

    #[test]
    fn a_waker_of_ours_is_recognised_on_every_target() {
        let id = Token::new(1_000, 7, 5);
        let waker = lend_waker(id, clone_of);
        assert_eq!(id_of(&waker), Some(id));
        // Both as foreign code clones it, and as this crate does.
        let (foreign, own) = (waker.clone(), clone_of(&waker));
        assert_eq!((id_of(&foreign), id_of(&own)), (Some(id), Some(id)));
        assert!(foreign.will_wake(&waker));
        drop(waker);
        drop(own);
        assert_eq!(into_id(foreign, id.owner()).ok(), Some(id));
        lend_waker(id, |waker| assert_eq!(id_of(waker), Some(id)));
        assert_eq!(id_of(Waker::noop()), None);
    }
}
