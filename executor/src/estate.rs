//! What tasks leave when their loop ends: the outputs of those that had finished, for handles that
//! will ask for them later, on any thread.
//!
//! Numbers name one task for as long as the process lives, so an output is found by its task's.
//! An entry is made before its loop's mailbox closes. So a handle that finds the mailbox closed
//! and no entry knows that there will be none. It is gone when its handle has taken it or is
//! dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use polyloop_reactor::{PerProcess, Token};

use crate::stage::TaskBox;
use crate::waker::Legacy;

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

/// Drops an output, which may own the handle of another one, and so on to any depth: what is given
/// here meanwhile waits in a list, and not on the stack.
pub(crate) fn clear(task: TaskBox) {
    thread_local! {
        /// What is left to drop, while something is being dropped.
        static CLEARING: RefCell<Option<Vec<TaskBox>>> = const { RefCell::new(None) };
    }

    let mut task = Some(task);
    // Where the thread is ending there is no list.
    let is_first = CLEARING.try_with(|clearing| {
        let mut clearing = clearing.borrow_mut();
        match &mut *clearing {
            Some(left) => {
                left.extend(task.take());
                false
            }
            None => {
                *clearing = Some(Vec::new());
                true
            }
        }
    });
    while let Some(mut next) = task.take() {
        next.as_mut().clear();
        drop(next);
        if is_first == Ok(true) {
            task = CLEARING.with(|clearing| clearing.borrow_mut().as_mut()?.pop());
        }
    }
    if is_first == Ok(true) {
        CLEARING.set(None);
    }
}
