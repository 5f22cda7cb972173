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

use polyloop_reactor::Token;

/// Outputs by their tasks.
pub(crate) struct Orphans<V> {
    outputs: Mutex<BTreeMap<Token, V>>,
    /// How many there are, so that nearly all of those that look in vain need no lock.
    ///
    /// Relaxed: a handle that may find an entry has learned, through the mailbox's lock or on the same
    /// thread, that its loop has ended.
    n_left: AtomicUsize,
}

impl<V> Orphans<V> {
    /// Keeps an output.
    pub(crate) fn put(&self, id: Token, output: V) {
        let mut outputs = self.lock();
        let replaced = outputs.insert(id, output);
        self.n_left.store(outputs.len(), Ordering::Relaxed);
        drop(outputs);
        debug_assert!(replaced.is_none(), "a number names one task");
    }

    /// Takes an output out, for its handle.
    pub(crate) fn take(&self, id: Token) -> Option<V> {
        if self.n_left.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut outputs = self.lock();
        let output = outputs.remove(&id);
        self.n_left.store(outputs.len(), Ordering::Relaxed);
        output
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Token, V>> {
        // Nothing panics while the lock is held.
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Default for Orphans<V> {
    fn default() -> Orphans<V> {
        Orphans { outputs: Mutex::default(), n_left: AtomicUsize::new(0) }
    }
}
