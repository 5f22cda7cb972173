//! Orphaned outputs: the outputs of finished tasks whose loop has ended, for handles that take them later on any thread.
//!
//! An id names one task for the lifetime of the process, so an output is found by its task's id. Entries are added before
//! the loop's mailbox closes, so a handle that finds the mailbox closed and no entry knows that there will be none. An entry
//! is removed when its handle takes it or is dropped.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use polyloop_reactor::Token;

/// The outputs by task.
pub(crate) struct Orphans<V> {
    outputs: Mutex<BTreeMap<Token, V>>,
    /// The number of outputs, so that most unsuccessful lookups need no lock.
    ///
    /// Relaxed: a handle that may find an entry has learned, through the mailbox's lock or on the same
    /// thread, that its loop has ended.
    n_left: AtomicUsize,
}

impl<V> Orphans<V> {
    /// Adds an output.
    pub(crate) fn put(&self, id: Token, output: V) {
        let mut outputs = self.lock();
        let replaced = outputs.insert(id, output);
        self.n_left.store(outputs.len(), Ordering::Relaxed);
        drop(outputs);
        debug_assert!(replaced.is_none(), "a number names one task");
    }

    /// Takes an output, for its handle.
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
