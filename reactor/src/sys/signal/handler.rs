//! The handler of all signals, and those before it, which it calls.
//!
//! Another copy of this library may exist in the process, in a plugin for example, and the program may have
//! handlers too. So the handler also calls the one that was installed before it: see [`Link`].

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use libc::c_int;

use super::action::{default_action, is_first, ours, replace};
use super::slots::{N_SIGNALS, deliver};
use crate::sys::os;

/// The position of this library's handler in the chain of handlers of a signal.
///
/// Code that installs a handler keeps the former one, calls it, and restores it later. So the handlers
/// form a chain, in which each knows the next one and not those before it. A handler in front of this
/// one, installed by another copy of this library for example, cannot be asked whether it still calls
/// this one, or be made to stop. Three things follow:
/// - A handler without listeners that is not the first stays in the chain and passes signals on.
/// - If it becomes the first, because the one before it was removed, it has no listeners: at the
///   next signal it restores the former disposition and raises the signal again.
/// - If a listener is created in the meantime, it is installed again, in front, since the first handler
///   may not call the next one. If it does, the chain contains this handler twice: `front` is
///   what the first of the two calls, `back` what the second one calls.
pub(super) struct Link {
    pub(super) back: Former,
    pub(super) front: Former,
}

/// A disposition that this library has replaced.
pub(super) struct Former {
    /// Set last, cleared first.
    is_set: AtomicBool,
    handler: AtomicUsize,
    flags: AtomicI32,
}

pub(super) static LINKS: [Link; N_SIGNALS] =
    [const { Link { back: Former::new(), front: Former::new() } }; N_SIGNALS];

/// The address of errno of each thread that runs the handler, plus the signal, to detect that a handler in the
/// chain calls this one again. If there is no room, the next handler is not called.
static RUNNING: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

impl Former {
    const fn new() -> Former {
        Former {
            is_set: AtomicBool::new(false),
            handler: AtomicUsize::new(libc::SIG_DFL),
            flags: AtomicI32::new(0),
        }
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, action: &libc::sigaction) {
        self.handler.store(action.sa_sigaction, Ordering::SeqCst);
        self.flags.store(action.sa_flags, Ordering::SeqCst);
        self.is_set.store(true, Ordering::SeqCst);
    }

    /// Returns the disposition, if there is one. Its mask is not known, and replaced by that of this library.
    pub(super) fn get(&self) -> Option<libc::sigaction> {
        self.is_set().then(|| self.action())
    }

    /// Takes the disposition.
    pub(super) fn take(&self) -> Option<libc::sigaction> {
        self.is_set.swap(false, Ordering::SeqCst).then(|| self.action())
    }

    fn action(&self) -> libc::sigaction {
        let mut action = ours();
        action.sa_sigaction = self.handler.load(Ordering::SeqCst);
        action.sa_flags = self.flags.load(Ordering::SeqCst);
        action
    }

    /// Calls the handler, if it is a function.
    fn call(&self, signum: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // Before the handler is read, since it is written last.
        if !self.is_set() {
            return;
        }
        let handler = self.handler.load(Ordering::SeqCst);
        if [libc::SIG_DFL, libc::SIG_IGN, libc::SIG_ERR].contains(&handler) {
            return;
        }
        if self.flags.load(Ordering::SeqCst) & libc::SA_SIGINFO != 0 {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: the system returned this address as that of a handler with three arguments.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signum, info, context);
        } else {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: the system returned this address as that of a handler with one argument.
            let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
            handler(signum);
        }
    }
}

pub(super) extern "C" fn handler(
    signum: c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the C library gives the address of this thread's errno, on any thread.
    let errno = unsafe { os::errno_location() };
    // SAFETY: the address is valid for reads, and no other thread writes to it.
    let saved = unsafe { errno.read() };
    if let Some(link) = usize::try_from(signum).ok().and_then(|signum| LINKS.get(signum)) {
        // Each thread has its own address, and they are further apart than there are signals.
        let key = errno.addr() + signum as usize;
        let relaxed = Ordering::Relaxed;
        let is_running = RUNNING.iter().any(|place| place.load(relaxed) == key);
        if is_running && link.front.is_set() {
            // The listeners have been notified already, unless a called handler has never returned.
            deliver(signum);
            link.back.call(signum, info, context);
        } else {
            let claim =
                |place: &&AtomicUsize| place.compare_exchange(0, key, relaxed, relaxed).is_ok();
            // If it is called again although it is in the chain once, it has called a handler that left by a
            // jump: the place was never cleared, and the next handler may be called.
            let place = (!is_running).then(|| RUNNING.iter().find(claim)).flatten();
            handle(signum, link, |former| {
                if is_running || place.is_some() {
                    former.call(signum, info, context);
                }
            });
            if let Some(place) = place {
                place.store(0, relaxed);
            }
        }
    }
    // SAFETY: as above, for writes. The interrupted code finds its errno unchanged.
    unsafe { errno.write(saved) };
}

/// Notifies the listeners, and then `call`s the handler that was installed before.
fn handle(signum: c_int, link: &Link, call: impl FnOnce(&Former)) {
    if deliver(signum) || !is_first(signum) {
        return call(if link.front.is_set() { &link.front } else { &link.back });
    }
    // The handler before this one has restored it, or the last listener is being dropped.
    let former = link.front.take().map(|former| (&link.front, former));
    let former = former.or_else(|| Some((&link.back, link.back.take()?)));
    let (place, former) = match former {
        Some((place, former)) => (Some(place), former),
        // Another thread has restored the former one in the meantime, and this signal is for that.
        None if !is_first(signum) => {
            // SAFETY: the call takes no pointers, and is async-signal-safe.
            unsafe { libc::raise(signum) };
            return;
        }
        None => (None, default_action()),
    };
    if replace(signum, &former).is_ok() {
        if deliver(signum) {
            // A listener has been created in the meantime, and found the handler installed.
            if let Some(place) = place {
                place.set(&former);
            }
            let _ = replace(signum, &ours());
            return;
        }
        // It is delivered when this handler has returned.
        // SAFETY: the call takes no pointers, and is async-signal-safe.
        unsafe { libc::raise(signum) };
    }
}
