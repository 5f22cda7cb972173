//! Signals as a descriptor that becomes readable.
//!
//! The handler does one thing: it writes to the [`WakeFd`] of each listener. Everything else
//! happens where the descriptor is read. The listeners of a signal sit in a list that only grows,
//! one slot for each of those there ever were at a time, so that the handler takes no lock,
//! allocates nothing and passes by no listener of another signal:
//!
//! ```text
//!              listen                    drop (1)                  drop (2): nobody writes any more
//!   free ──────────────────▶ listening ─────────────▶ leaving ──────────────────────────▶ free
//!   signum 0                 signum n                 signum 0, n_writing > 0             fd closed
//! ```
//!
//! Another copy of this library may live in the process, in a plugin for example, and there may be
//! handlers of others. So the handler also calls the one that was there before: see [`Link`].
//!
//! A handler that found the slot in `listening` counts itself in `n_writing` and looks again
//! before it writes; a listener that leaves waits until that count is zero, so no handler ever
//! writes to a number that has gone to another file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;

use crate::sys::cvt::cvt;
use crate::sys::fork::{self, ForkGuard, PerProcess};
use crate::sys::os;
use crate::sys::wake::{self, WakeFd};

/// Listens for one signal: its descriptor is readable when the signal has come.
///
/// Signals of one kind coalesce: that it came is known, how often is not. Any number of
/// listeners hear the same signal, each by itself; the process can have as many as it can have
/// descriptors, each takes one. While there is a listener, the signal's default action does not
/// happen. A handler that was installed before, by the program or by another copy of this library, is
/// called as well. The former disposition comes back when the last listener of that signal is dropped. A
/// signal that is still on its way then meets that disposition, which may be to end the process.
///
/// If another handler was installed later, it stays, and may go on calling this library's. The code of
/// that is then kept in memory even if the library that it is part of is unloaded.
///
/// # Examples
/// ```
/// use std::os::fd::AsFd;
/// use polyloop::selectors::{Events, Interest, Mode, SignalFd, Token, default_selector};
///
/// let window = SignalFd::listen(SignalFd::WINDOW_CHANGE)?;
/// let mut selector = default_selector()?;
/// selector.register(window.as_fd(), Token::from_raw(1), Interest::READABLE, Mode::Level)?;
///
/// let mut events = Events::with_capacity(8);
/// selector.select(&mut events, Some(std::time::Duration::ZERO))?;
/// assert!(events.is_empty());
/// assert!(!window.take()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct SignalFd {
    signum: c_int,
    slot: &'static Slot,
    wake: WakeFd,
    fork: ForkGuard,
}

impl SignalFd {
    /// Ctrl-C: `SIGINT`.
    pub const INTERRUPT: i32 = libc::SIGINT;
    /// The polite request to end: `SIGTERM`.
    pub const TERMINATE: i32 = libc::SIGTERM;
    /// The terminal is gone; daemons read their configuration again: `SIGHUP`.
    pub const HANG_UP: i32 = libc::SIGHUP;
    /// Ctrl-\: `SIGQUIT`.
    pub const QUIT: i32 = libc::SIGQUIT;
    /// The first for the program's own use: `SIGUSR1`.
    pub const USER1: i32 = libc::SIGUSR1;
    /// The second for the program's own use: `SIGUSR2`.
    pub const USER2: i32 = libc::SIGUSR2;
    /// A child has ended or stopped: `SIGCHLD`.
    pub const CHILD: i32 = libc::SIGCHLD;
    /// A timer of the process has run out: `SIGALRM`.
    pub const ALARM: i32 = libc::SIGALRM;
    /// A write found no reader: `SIGPIPE`.
    pub const PIPE: i32 = libc::SIGPIPE;
    /// The terminal has another size: `SIGWINCH`.
    pub const WINDOW_CHANGE: i32 = libc::SIGWINCH;
    /// A descriptor is ready, for those who asked the kernel to say so: `SIGIO`.
    pub const IO: i32 = libc::SIGIO;
    /// The process goes on after a stop: `SIGCONT`.
    pub const CONTINUE: i32 = libc::SIGCONT;

    /// Begins to listen for the signal `signum`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a number that is no signal, for `SIGKILL`
    /// and `SIGSTOP`, which no process hears, and for those that report a fault of the program
    /// itself (`SIGSEGV` and its like), from which a handler cannot return. What the system reports
    /// when no descriptor is left.
    pub fn listen(signum: i32) -> io::Result<SignalFd> {
        check(signum)?;
        let wake = WakeFd::new()?;
        let fork = ForkGuard::new();
        let mut dispositions = lock();
        let slot = dispositions.slot_for(signum);
        slot.enter(signum, wake.writer_fd());
        if let Err(error) = dispositions.acquire(signum) {
            slot.leave();
            dispositions.free(signum, slot);
            return Err(error);
        }
        drop(dispositions);
        Ok(SignalFd { signum, slot, wake, fork })
    }

    /// Returns the signal's number.
    pub fn signum(&self) -> i32 {
        self.signum
    }

    /// Reports whether the signal has come since the last look, and makes the descriptor
    /// unreadable until it comes again.
    ///
    /// # Errors
    /// What the system says; an error in a forked child, which would take the parent's signal.
    pub fn take(&self) -> io::Result<bool> {
        self.fork.check()?;
        self.wake.drain()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl fmt::Debug for SignalFd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalFd").field("signum", &self.signum).finish_non_exhaustive()
    }
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        let mut dispositions = lock();
        self.slot.leave();
        let is_linked = dispositions.release(self.signum);
        dispositions.free(self.signum, self.slot);
        // Loading takes a lock of its own.
        drop(dispositions);
        if is_linked {
            stay_loaded();
        }
    }
}

/// More than any system has signals.
const N_SIGNALS: usize = 256;

/// The listeners of each signal: the slot that was added last, which leads to the others.
///
/// Slots are never taken out or given back, for a handler may be looking at them. There are as many
/// as there ever were listeners at a time.
static LISTENERS: [AtomicPtr<Slot>; N_SIGNALS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; N_SIGNALS];

/// Lists the slots of a signal. Async-signal-safe.
fn slots(signum: c_int) -> impl Iterator<Item = &'static Slot> {
    let list = usize::try_from(signum).ok().and_then(|signum| LISTENERS.get(signum));
    // Acquire: what was written before the slot was added is there to be read.
    let first = list.map_or(ptr::null_mut(), |list| list.load(Ordering::Acquire));
    // SAFETY: it is null, or was leaked by `slot_for` and is never written to but by atomics.
    let first = unsafe { first.as_ref() };
    std::iter::successors(first, |slot| slot.next)
}

/// One listener, as the handler sees it.
struct Slot {
    /// The slot of the same signal that was added before this one.
    next: Option<&'static Slot>,
    /// The signal, 0 for none.
    signum: AtomicI32,
    /// Where to write.
    fd: AtomicI32,
    /// The fork generation of the process that listens.
    born: AtomicU32,
    /// How many handlers are between the first look at `signum` and the end of their write.
    n_writing: AtomicU32,
}

impl Slot {
    fn new(next: Option<&'static Slot>) -> Slot {
        Slot {
            next,
            signum: AtomicI32::new(0),
            fd: AtomicI32::new(-1),
            born: AtomicU32::new(0),
            n_writing: AtomicU32::new(0),
        }
    }

    fn enter(&self, signum: c_int, fd: c_int) {
        self.fd.store(fd, Ordering::Relaxed);
        self.born.store(fork::generation(), Ordering::Relaxed);
        self.signum.store(signum, Ordering::SeqCst);
    }

    /// Makes handlers pass the slot by, and waits for those that are at it.
    ///
    /// It cannot wait for itself: a handler that interrupts this very thread is over before the
    /// thread goes on. In a forked child there may be the count of a thread that was not forked
    /// along, which nobody will ever take back, and whose write is the parent's.
    fn leave(&self) {
        self.signum.store(0, Ordering::SeqCst);
        let is_ours = self.born.load(Ordering::Relaxed) == fork::generation();
        while is_ours && self.n_writing.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// Forgets the handlers of a process that this one was forked from.
    fn reset(&self) {
        if self.born.load(Ordering::Relaxed) != fork::generation() {
            self.n_writing.store(0, Ordering::SeqCst);
        }
    }

    /// Writes, if the slot listens for `signum`, and reports whether it does. Async-signal-safe.
    fn deliver(&self, signum: c_int) -> bool {
        if self.signum.load(Ordering::SeqCst) != signum {
            return false;
        }
        self.n_writing.fetch_add(1, Ordering::SeqCst);
        // Looked at again: only now is the listener kept from closing the descriptor.
        let is_listening = self.signum.load(Ordering::SeqCst) == signum;
        let is_ours = self.born.load(Ordering::Relaxed) == fork::generation();
        if is_listening && is_ours {
            // Nothing can be done about an error here, and none is left: a full pipe is no error,
            // and the descriptor is open.
            let _ = wake::raise(self.fd.load(Ordering::Relaxed));
        }
        self.n_writing.fetch_sub(1, Ordering::SeqCst);
        is_listening
    }
}

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
struct Link {
    back: Former,
    front: Former,
}

/// A disposition that ours has replaced.
struct Former {
    /// Set last, cleared first.
    is_set: AtomicBool,
    handler: AtomicUsize,
    flags: AtomicI32,
}

static LINKS: [Link; N_SIGNALS] =
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

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    fn set(&self, action: &libc::sigaction) {
        self.handler.store(action.sa_sigaction, Ordering::SeqCst);
        self.flags.store(action.sa_flags, Ordering::SeqCst);
        self.is_set.store(true, Ordering::SeqCst);
    }

    /// Returns the disposition, if there is one. Its mask is not known: it is that of ours.
    fn get(&self) -> Option<libc::sigaction> {
        self.is_set().then(|| self.action())
    }

    /// Returns the disposition and forgets it.
    fn take(&self) -> Option<libc::sigaction> {
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

extern "C" fn handler(signum: c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
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

/// Writes to the listeners of a signal; false if there are none.
fn deliver(signum: c_int) -> bool {
    let mut is_heard = false;
    for slot in slots(signum) {
        is_heard |= slot.deliver(signum);
    }
    is_heard
}

/// Reports whether ours is the handler that the system calls.
fn is_first(signum: c_int) -> bool {
    current(signum).is_ok_and(|now| now.sa_sigaction == ours().sa_sigaction)
}

/// Keeps the library that this code is part of in memory.
fn stay_loaded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let address = ptr::with_exposed_provenance::<libc::c_void>(ours().sa_sigaction);
        let mut found = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: the address is one of code, and `found` is valid for writes.
        if unsafe { libc::dladdr(address, found.as_mut_ptr()) } == 0 {
            return;
        }
        // SAFETY: it is plain pointers, for which zero is valid, and the call has filled it.
        let found = unsafe { found.assume_init() };
        if found.dli_fname.is_null() {
            return;
        }
        // A second handle, which nobody closes. It is an error for the program itself, which cannot
        // be unloaded.
        // SAFETY: the name is a string that the loader owns, of what is loaded: nothing is run.
        unsafe { libc::dlopen(found.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    });
}

/// Keeps the former dispositions of the signals that are listened for.
#[derive(Clone, Default)]
struct Dispositions {
    list: Vec<Saved>,
    /// The slots that no listener has, of each signal.
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

fn lock() -> MutexGuard<'static, Dispositions> {
    // Nothing that panics leaves the list in disorder.
    DISPOSITIONS.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dispositions {
    /// Copies the lists for a forked child, unless another thread was changing them when the child
    /// was made: then the child takes what it finds for the former disposition.
    fn inherit(parents: Option<&Mutex<Dispositions>>) -> Mutex<Dispositions> {
        let parents = parents.and_then(|parents| Some(parents.try_lock().ok()?.clone()));
        Mutex::new(parents.unwrap_or_default())
    }

    /// Finds a slot for a new listener, or adds one.
    fn slot_for(&mut self, signum: c_int) -> &'static Slot {
        if let Some(slot) = self.free.get_mut(&signum).and_then(Vec::pop) {
            return slot;
        }
        let slot: &'static mut Slot = Box::leak(Box::new(Slot::new(slots(signum).next())));
        let slot = ptr::from_mut(slot);
        // Not out of bounds: the system knows the signal.
        LISTENERS[signum as usize].store(slot, Ordering::Release);
        // SAFETY: it was leaked above, so it is there for ever, and nobody has it mutably.
        unsafe { &*slot }
    }

    fn free(&mut self, signum: c_int, slot: &'static Slot) {
        slot.reset();
        self.free.entry(signum).or_default().push(slot);
    }

    /// Installs the handler for the first listener of a signal.
    fn acquire(&mut self, signum: c_int) -> io::Result<()> {
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
                // Before the handler is there, which calls it.
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

    /// Puts the former disposition back when the last listener of a signal goes. True if the handler
    /// may still be called, by one that was installed after it.
    fn release(&mut self, signum: c_int) -> bool {
        let Some(index) = self.list.iter().position(|saved| saved.signum == signum) else {
            return false;
        };
        let saved = &mut self.list[index];
        saved.n_listeners -= 1;
        let link = &LINKS[signum as usize];
        if saved.n_listeners > 0 {
            return false;
        }
        // Not if somebody has put another handler in place of ours since: it is theirs now.
        if is_first(signum) {
            let (place, full) = match link.front.is_set() {
                true => (&link.front, &mut saved.front),
                false => (&link.back, &mut saved.back),
            };
            // The handler may have done it, for a signal that has come since the listener left. It finds the
            // former disposition until that is in place: without one it would take the default.
            if let Some(former) = place.get() {
                let full = full.take().filter(|full| full.sa_sigaction == former.sa_sigaction);
                // No error can come: the same signal was accepted before.
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

/// Returns our disposition: interrupted calls are resumed, an alternate stack is used where there
/// is one, and no other signal interrupts the handler.
fn ours() -> libc::sigaction {
    // SAFETY: a `sigaction` is plain integers and an optional function, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut libc::c_void) = handler;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK | libc::SA_SIGINFO;
    // SAFETY: the mask is valid for writes.
    unsafe { libc::sigfillset(&mut action.sa_mask) };
    action
}

fn default_action() -> libc::sigaction {
    let mut action = ours();
    (action.sa_sigaction, action.sa_flags) = (libc::SIG_DFL, 0);
    action
}

fn replace(signum: c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut former = MaybeUninit::uninit();
    // SAFETY: `action` is initialized and `former` valid for writes. Our handler is
    // async-signal-safe; any other came from the system and goes back where it was.
    cvt(unsafe { libc::sigaction(signum, action, former.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `former`.
    Ok(unsafe { former.assume_init() })
}

fn current(signum: c_int) -> io::Result<libc::sigaction> {
    let mut current = MaybeUninit::uninit();
    // SAFETY: a null action changes nothing, and `current` is valid for writes.
    cvt(unsafe { libc::sigaction(signum, ptr::null(), current.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it has filled `current`.
    Ok(unsafe { current.assume_init() })
}

fn check(signum: c_int) -> io::Result<()> {
    let reason = match signum {
        libc::SIGKILL | libc::SIGSTOP => "no process can listen for it",
        libc::SIGSEGV
        | libc::SIGBUS
        | libc::SIGFPE
        | libc::SIGILL
        | libc::SIGTRAP
        | libc::SIGABRT
        | libc::SIGSYS => "it reports a fault, from which a handler cannot return",
        _ if current(signum).is_err() => "there is no such signal",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("listen: signal {signum}: {reason}")))
}
