//! The listeners of each signal, as the handler finds them.
//!
//! They are in a list that only grows, with one slot for each listener that existed at the same time as
//! the others, so that the handler takes no lock, allocates nothing and does not visit the listeners of
//! other signals:
//!
//! ```text
//!              listen                    drop (1)                  drop (2): no handler writes any more
//!   free ──────────────────▶ listening ─────────────▶ leaving ──────────────────────────▶ free
//!   signum 0                 signum n                 signum 0, n_writing > 0             fd closed
//! ```
//!
//! A handler that finds the slot in `listening` counts itself in `n_writing` and checks `signum` again
//! before it writes. A listener that leaves waits until that count is zero, so no handler ever
//! writes to a number that names another file.

use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};

use libc::c_int;

use crate::sys::fork;
use crate::sys::wake;

/// More than any system has signals.
pub(super) const N_SIGNALS: usize = 256;

/// The listeners of each signal: the slot that was added last, which links to the others.
///
/// Slots are never removed or freed, since a handler may be reading them. There are as many
/// as the largest number of listeners at the same time.
pub(super) static LISTENERS: [AtomicPtr<Slot>; N_SIGNALS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; N_SIGNALS];

/// Iterates over the slots of a signal. Async-signal-safe.
pub(super) fn slots(signum: c_int) -> impl Iterator<Item = &'static Slot> {
    let list = usize::try_from(signum).ok().and_then(|signum| LISTENERS.get(signum));
    // Acquire: what was written before the slot was added is visible.
    let first = list.map_or(ptr::null_mut(), |list| list.load(Ordering::Acquire));
    // SAFETY: it is null, or was leaked by `slot_for` and is written only by atomic operations.
    let first = unsafe { first.as_ref() };
    std::iter::successors(first, |slot| slot.next)
}

/// A listener, as the handler sees it.
pub(super) struct Slot {
    /// The slot of the same signal that was added before this one.
    next: Option<&'static Slot>,
    /// The signal, 0 for none.
    signum: AtomicI32,
    /// The descriptor to write to.
    fd: AtomicI32,
    /// The fork generation of the process that listens.
    born: AtomicU32,
    /// The number of handlers between their first check of `signum` and the end of their write.
    n_writing: AtomicU32,
}

impl Slot {
    pub(super) fn new(next: Option<&'static Slot>) -> Slot {
        Slot {
            next,
            signum: AtomicI32::new(0),
            fd: AtomicI32::new(-1),
            born: AtomicU32::new(0),
            n_writing: AtomicU32::new(0),
        }
    }

    pub(super) fn enter(&self, signum: c_int, fd: c_int) {
        self.fd.store(fd, Ordering::Relaxed);
        self.born.store(fork::generation(), Ordering::Relaxed);
        self.signum.store(signum, Ordering::SeqCst);
    }

    /// Makes handlers skip the slot, and waits for those that are writing.
    ///
    /// It cannot wait for its own thread: a handler that interrupts this thread returns before the
    /// thread continues. In a forked child the count may include a thread that does not exist in the
    /// child: it is never decremented, and that write is the parent's.
    pub(super) fn leave(&self) {
        self.signum.store(0, Ordering::SeqCst);
        let is_ours = self.born.load(Ordering::Relaxed) == fork::generation();
        while is_ours && self.n_writing.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// Resets the count of handlers of the parent process in a forked child.
    pub(super) fn reset(&self) {
        if self.born.load(Ordering::Relaxed) != fork::generation() {
            self.n_writing.store(0, Ordering::SeqCst);
        }
    }

    /// Writes if the slot listens for `signum`. Returns whether it does. Async-signal-safe.
    pub(super) fn deliver(&self, signum: c_int) -> bool {
        if self.signum.load(Ordering::SeqCst) != signum {
            return false;
        }
        self.n_writing.fetch_add(1, Ordering::SeqCst);
        // Checked again: only now is the listener prevented from closing the descriptor.
        let is_listening = self.signum.load(Ordering::SeqCst) == signum;
        let is_ours = self.born.load(Ordering::Relaxed) == fork::generation();
        if is_listening && is_ours {
            // An error cannot be handled here, and there is none: a full pipe is no error,
            // and the descriptor is open.
            let _ = wake::raise(self.fd.load(Ordering::Relaxed));
        }
        self.n_writing.fetch_sub(1, Ordering::SeqCst);
        is_listening
    }
}

/// Writes to the listeners of a signal. Returns whether there are any.
pub(super) fn deliver(signum: c_int) -> bool {
    let mut is_heard = false;
    for slot in slots(signum) {
        is_heard |= slot.deliver(signum);
    }
    is_heard
}
