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

use polyloop_reactor::Token;

use crate::stage::TaskBox;
use crate::waker::Legacy;

/// The outputs, by their tasks.
static ESTATE: Mutex<BTreeMap<Token, Legacy>> = Mutex::new(BTreeMap::new());

/// How many there are, so that those who look in vain, nearly all, need no lock.
///
/// Relaxed: whoever may find an entry has learned, through the mailbox's lock or on the same
/// thread, that its loop has ended.
static N_LEFT: AtomicUsize = AtomicUsize::new(0);

/// Keeps an output.
pub(crate) fn put(id: Token, legacy: Legacy) {
    let mut estate = lock();
    let replaced = estate.insert(id, legacy);
    N_LEFT.store(estate.len(), Ordering::Relaxed);
    drop(estate);
    debug_assert!(replaced.is_none(), "a number names one task");
}

/// Takes an output out, for its handle.
pub(crate) fn take(id: Token) -> Option<Legacy> {
    if N_LEFT.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let mut estate = lock();
    let legacy = estate.remove(&id);
    N_LEFT.store(estate.len(), Ordering::Relaxed);
    legacy
}

/// Reports whether there is an output of this task.
pub(crate) fn has(id: Token) -> bool {
    N_LEFT.load(Ordering::Relaxed) > 0 && lock().contains_key(&id)
}

fn lock() -> MutexGuard<'static, BTreeMap<Token, Legacy>> {
    // Nothing panics while the lock is held.
    ESTATE.lock().unwrap_or_else(PoisonError::into_inner)
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
