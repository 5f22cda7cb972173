//! The dispositions that the handler has replaced, and when they are restored.

use std::collections::BTreeMap;
use std::io;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;

use super::action::{current, is_first, ours, replace};
use super::handler::LINKS;
use super::slots::{LISTENERS, Slot, slots};
use crate::sys::fork::PerProcess;

/// The former dispositions of the signals that have listeners.
#[derive(Clone, Default)]
pub(super) struct Dispositions {
    list: Vec<Saved>,
    /// The unused slots of each signal.
    free: BTreeMap<c_int, Vec<&'static Slot>>,
}

#[derive(Clone)]
struct Saved {
    signum: c_int,
    n_listeners: usize,
    /// What [`Link::back`] and [`Link::front`] stand for, in full.
    back: Option<libc::sigaction>,
    front: Option<libc::sigaction>,
}

static DISPOSITIONS: PerProcess<Mutex<Dispositions>> = PerProcess::new(Dispositions::inherit);

pub(super) fn lock() -> MutexGuard<'static, Dispositions> {
    // No panic leaves the list in an invalid state.
    DISPOSITIONS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dispositions {
    /// Copies the lists for a forked child. If another thread was changing them during the fork, the child
    /// takes the current disposition for the former one.
    fn inherit(parents: Option<&Mutex<Dispositions>>) -> Mutex<Dispositions> {
        let parents = parents.and_then(|parents| Some(parents.try_lock().ok()?.clone()));
        Mutex::new(parents.unwrap_or_default())
    }

    /// Finds a slot for a new listener, or adds one.
    pub(super) fn slot_for(&mut self, signum: c_int) -> &'static Slot {
        if let Some(slot) = self.free.get_mut(&signum).and_then(Vec::pop) {
            return slot;
        }
        let slot: &'static mut Slot = Box::leak(Box::new(Slot::new(slots(signum).next())));
        let slot = ptr::from_mut(slot);
        // Not out of bounds: the system knows the signal.
        LISTENERS[signum as usize].store(slot, Ordering::Release);
        // SAFETY: it was leaked above, so it is never freed, and no mutable reference to it exists.
        unsafe { &*slot }
    }

    pub(super) fn free(&mut self, signum: c_int, slot: &'static Slot) {
        slot.reset();
        self.free.entry(signum).or_default().push(slot);
    }

    /// Installs the handler for the first listener of a signal.
    pub(super) fn acquire(&mut self, signum: c_int) -> io::Result<()> {
        let index = self.list.iter().position(|saved| saved.signum == signum);
        let index = index.unwrap_or_else(|| {
            self.list.push(Saved { signum, n_listeners: 0, back: None, front: None });
            self.list.len() - 1
        });
        let saved = &mut self.list[index];
        // Not out of bounds: the system knows the signal.
        let link = &LINKS[signum as usize];
        if saved.n_listeners == 0 && !is_first(signum) {
            let place = if link.back.is_set() { &link.front } else { &link.back };
            // With both in the list already it is left as it is.
            if !place.is_set() {
                // Before the handler is installed, which calls it.
                place.set(&current(signum)?);
                let former = replace(signum, &ours()).inspect_err(|_| {
                    place.take();
                })?;
                place.set(&former);
                let is_front = ptr::eq(place, &link.front);
                *(if is_front { &mut saved.front } else { &mut saved.back }) = Some(former);
            }
        }
        saved.n_listeners += 1;
        Ok(())
    }

    /// Restores the former disposition when the last listener of a signal is dropped. Returns whether the handler
    /// may still be called, by one that was installed after it.
    pub(super) fn release(&mut self, signum: c_int) -> bool {
        let Some(index) = self.list.iter().position(|saved| saved.signum == signum) else {
            return false;
        };
        let saved = &mut self.list[index];
        saved.n_listeners -= 1;
        let link = &LINKS[signum as usize];
        if saved.n_listeners > 0 {
            return false;
        }
        // Not if another handler has been installed since.
        if is_first(signum) {
            let (place, full) = match link.front.is_set() {
                true => (&link.front, &mut saved.front),
                false => (&link.back, &mut saved.back),
            };
            // The handler may have done it, for a signal that was delivered since the listener left. It finds the
            // former disposition until that is restored: without one it would use the default.
            if let Some(former) = place.get() {
                let full = full.take().filter(|full| full.sa_sigaction == former.sa_sigaction);
                // There is no error: the same signal was accepted before.
                let _ = replace(signum, &full.unwrap_or(former));
                place.take();
            }
        }
        let is_linked = link.back.is_set();
        if !is_linked {
            self.list.swap_remove(index);
        }
        is_linked
    }
}
