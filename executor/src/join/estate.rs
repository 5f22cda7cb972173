//! What tasks leave when their loop ends: the outputs of those that had finished, for handles that
//! will ask for them later, on any thread.
//!
//! Numbers name one task for as long as the process lives, so an output is found by its task's.
//! An entry is made before its loop's mailbox closes. So a handle that finds the mailbox closed
//! and no entry knows that there will be none. It is gone when its handle has taken it or is
//! dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use polyloop_reactor::{PerProcess, Token};

use crate::raw::waker::Legacy;

/// The outputs, by their tasks. A forked child has none of its parent's.
static ESTATE: PerProcess<Estate> = PerProcess::new(|_parents| Estate::default());

#[derive(Default)]
struct Estate {
    outputs: Mutex<BTreeMap<Token, Legacy>>,
    /// How many there are, so that those who look in vain, nearly all, need no lock.
    ///
    /// Relaxed: whoever may find an entry has learned, through the mailbox's lock or on the same
    /// thread, that its loop has ended.
    n_left: AtomicUsize,
}

impl Estate {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Token, Legacy>> {
        // Nothing panics while the lock is held.
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an output.
pub(crate) fn put(id: Token, legacy: Legacy) {
    let estate = ESTATE.get();
    let mut outputs = estate.lock();
    let replaced = outputs.insert(id, legacy);
    estate.n_left.store(outputs.len(), Ordering::Relaxed);
    drop(outputs);
    debug_assert!(replaced.is_none(), "a number names one task");
}

/// Takes an output out, for its handle.
pub(crate) fn take(id: Token) -> Option<Legacy> {
    let estate = find()?;
    let mut outputs = estate.lock();
    let legacy = outputs.remove(&id);
    estate.n_left.store(outputs.len(), Ordering::Relaxed);
    legacy
}

/// Returns the outputs, if there are any.
fn find() -> Option<&'static Estate> {
    ESTATE.peek().filter(|estate| estate.n_left.load(Ordering::Relaxed) > 0)
}
