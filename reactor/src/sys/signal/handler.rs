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

/// Where our handler is among the handlers of a signal, as the handler sees it.
///
/// Who installs a handler keeps the former one and calls it, and puts it back later. So the handlers
/// form a list, in which each knows the next and not those before it: what was put in front of ours, by
/// another copy of this library for example, cannot be asked whether it still calls ours, or told to
/// stop. From that follow three things:
/// - A handler that is no longer wanted and is not the first stays in the list, and passes signals on.
/// - If it becomes the first, since the one before it was taken away, there is nobody left who
///   listens: with the next signal it puts back what was there before it, and lets that have the signal.
/// - If listeners come back meanwhile, it is installed once more, in front, since the one that is there
///   may not call the next at all. If it does, the list has ours twice: `front` is what the first of
///   the two calls, `back` what the second does.
pub(super) struct Link {
    pub(super) back: Former,
    pub(super) front: Former,
}

/// A disposition that ours has replaced.
pub(super) struct Former {
    /// Set last, cleared first.
    is_set: AtomicBool,
    handler: AtomicUsize,
    flags: AtomicI32,
}

pub(super) static LINKS: [Link; N_SIGNALS] =
    [const { Link { back: Former::new(), front: Former::new() } }; N_SIGNALS];

/// The address of errno of each thread that runs our handler, plus the signal, so that a handler which is
/// called again by one that it has called knows that. Where there is no room, none is called.
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

    /// Returns the disposition, if there is one. Its mask is not known: it is that of ours.
    pub(super) fn get(&self) -> Option<libc::sigaction> {
        self.is_set().then(|| self.action())
    }

    /// Returns the disposition and forgets it.
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
        // Before the handler is read, since it is what is written last.
        if !self.is_set() {
            return;
        }
        let handler = self.handler.load(Ordering::SeqCst);
        if [libc::SIG_DFL, libc::SIG_IGN, libc::SIG_ERR].contains(&handler) {
            return;
        }
        if self.flags.load(Ordering::SeqCst) & libc::SA_SIGINFO != 0 {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: the system had this address as that of a handler with three arguments.
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signum, info, context);
        } else {
            let handler = ptr::with_exposed_provenance::<()>(handler);
            // SAFETY: the system had this address as that of a handler with one argument.
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
    // SAFETY: the address is valid for reads, and nobody else writes to this thread's errno.
    let saved = unsafe { errno.read() };
    if let Some(link) = usize::try_from(signum).ok().and_then(|signum| LINKS.get(signum)) {
        // Each thread has its own, and they are further apart than there are signals.
        let key = errno.addr() + signum as usize;
        let relaxed = Ordering::Relaxed;
        let is_running = RUNNING.iter().any(|place| place.load(relaxed) == key);
        if is_running && link.front.is_set() {
            // The listeners have heard, unless a handler that was called has never returned.
            deliver(signum);
            link.back.call(signum, info, context);
        } else {
            let claim =
                |place: &&AtomicUsize| place.compare_exchange(0, key, relaxed, relaxed).is_ok();
            // Called again although it is in the list once, this handler has called one that left by a
            // jump: it never took its place back, and the next call may well be made.
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
    // SAFETY: as above, for writes. What was interrupted finds its errno as it left it.
    unsafe { errno.write(saved) };
}

/// Tells the listeners, and then `call`s the handler that was there before.
fn handle(signum: c_int, link: &Link, call: impl FnOnce(&Former)) {
    if deliver(signum) || !is_first(signum) {
        return call(if link.front.is_set() { &link.front } else { &link.back });
    }
    // Whoever was before this handler has put it back, or the last listener is just leaving.
    let former = link.front.take().map(|former| (&link.front, former));
    let former = former.or_else(|| Some((&link.back, link.back.take()?)));
    let (place, former) = match former {
        Some((place, former)) => (Some(place), former),
        // Another thread has put it back meanwhile, and this signal is for that.
        None if !is_first(signum) => {
            // SAFETY: the call takes no pointers, and is async-signal-safe.
            unsafe { libc::raise(signum) };
            return;
        }
        None => (None, default_action()),
    };
    if replace(signum, &former).is_ok() {
        if deliver(signum) {
            // A listener has come meanwhile, and found the handler in place.
            if let Some(place) = place {
                place.set(&former);
            }
            let _ = replace(signum, &ours());
            return;
        }
        // It waits until this handler has returned.
        // SAFETY: the call takes no pointers, and is async-signal-safe.
        unsafe { libc::raise(signum) };
    }
}
