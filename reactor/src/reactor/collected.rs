//! What a turn collects, to be woken or dropped after the borrow of the reactor.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use super::source::Source;
use super::waiters::WaiterList;
use crate::Token;

/// A source that is no longer watched, to be dropped outside the borrow of the reactor.
#[derive(Debug)]
#[must_use = "drop it when no borrow of the reactor is alive"]
pub struct Released(
    #[expect(dead_code, reason = "held only to be dropped")] pub(super) Source,
    #[expect(dead_code, reason = "held only to be dropped")] pub(super) [Option<WaiterList>; 2],
);

/// The wakers to wake and the sources to drop after a turn.
///
/// Keep it from turn to turn, so that its memory is reused.
#[derive(Debug, Default)]
pub struct Collected {
    pub(super) wakers: Vec<Waker>,
    pub(super) leaving: Vec<Token>,
    pub(super) released: Vec<Released>,
}

impl Collected {
    /// Keeps only the wakers for which `keep` returns `true`, in their order.
    ///
    /// A loop removes the wakers of its own tasks, which it wakes more directly.
    pub fn retain_wakers(&mut self, mut keep: impl FnMut(&Waker) -> bool) {
        // Usually none is kept, and `clear` is cheaper than `retain`.
        match self.wakers.iter().position(&mut keep) {
            None => self.wakers.clear(),
            Some(n_taken) => self.retain_after(n_taken, keep),
        }
    }

    /// Does so for the wakers after the first `n_taken`, which are removed, and the next one, which is kept.
    #[cold]
    fn retain_after(&mut self, n_taken: usize, mut keep: impl FnMut(&Waker) -> bool) {
        self.wakers.drain(..n_taken);
        let mut is_first = true;
        self.wakers.retain(|waker| mem::take(&mut is_first) || keep(waker));
    }

    /// Returns whether there is nothing to wake and nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.released.is_empty()
    }

    /// Wakes all wakers, in the order of the events, and drops the released sources.
    ///
    /// If a waker or a destructor panics, the panic hook reports it, and the remaining ones are still woken and
    /// dropped.
    pub fn wake_all(&mut self) {
        self.wakers.reverse();
        while !self.wakers.is_empty() {
            // The one that panicked is no longer in the list.
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

/// Runs foreign code and discards its panic, which the panic hook has reported.
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

    /// A waker with a number, which records its wake.
    struct Named(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn wakers_that_are_kept_are_passed_once_and_woken_in_their_order() {
        // Each bit of `kept` decides whether one of five is kept.
        for kept in 0..32_u32 {
            let is_kept = |index: usize| kept >> index & 1 == 1;
            let woken = Arc::new(Mutex::new(Vec::new()));
            let mut collected = Collected::default();
            for index in 0..5 {
                collected.wakers.push(Arc::new(Named(index, Arc::clone(&woken))).into());
            }
            let mut n_passed = 0;
            collected.retain_wakers(|_| {
                n_passed += 1;
                is_kept(n_passed - 1)
            });
            assert_eq!((n_passed, collected.is_empty()), (5, kept == 0));
            collected.wake_all();
            assert!(collected.is_empty());
            assert!((0..5).filter(|index| is_kept(*index)).eq(woken.lock().unwrap().drain(..)));
        }
    }
}
