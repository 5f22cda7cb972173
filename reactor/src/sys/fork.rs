//! Notices that the process is a forked child, without a system call for each look.
//!
//! A child shares its parent's epoll set, eventfd and pipes: what it changes there, it changes
//! for the parent. So everything that would touch them asks a [`ForkGuard`] first.
//!
//! A child made by a bare `clone` system call, past the C library, is not noticed.

use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use libc::c_int;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Set once forks are counted. Two threads that find it unset install the handler twice, and each
/// fork then counts for two, which is as good. A `Once` would not do: a child that is forked while
/// another thread is in it could never get past it.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    // libc declares it for some systems only; every one of ours has it.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// Remembers in which process it was made.
///
/// # Platform
/// A child made by a bare `clone` system call, past the C library, is not noticed.
///
/// # References
/// [pthread_atfork(3)](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html).
///
/// # Examples
/// ```
/// let guard = polyloop::driver::ForkGuard::new();
/// assert!(!guard.is_foreign());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ForkGuard {
    born: u32,
}

impl ForkGuard {
    /// Remembers this process.
    ///
    /// # Panics
    /// If there is no memory for the fork handler.
    #[expect(clippy::new_without_default, reason = "no default process is meant, but this one")]
    #[track_caller]
    pub fn new() -> ForkGuard {
        if !IS_INSTALLED.load(Ordering::Acquire) {
            // SAFETY: `in_child` takes nothing, returns nothing, does one atomic addition (which
            // is async-signal-safe, as a child of a threaded process demands) and lives for ever.
            let error = unsafe { pthread_atfork(None, None, Some(in_child)) };
            assert_eq!(error, 0, "pthread_atfork: no memory for the handler");
            IS_INSTALLED.store(true, Ordering::Release);
        }
        ForkGuard { born: generation() }
    }

    /// Reports whether this process is another one. Async-signal-safe; one relaxed load.
    #[inline]
    pub fn is_foreign(self) -> bool {
        self.born != generation()
    }

    /// Refuses to go on in a forked child.
    ///
    /// # Errors
    /// In any process but the one that made the guard.
    #[inline]
    pub fn check(self) -> io::Result<()> {
        if self.is_foreign() { Err(forked()) } else { Ok(()) }
    }
}

/// Holds a value that each process has for itself, for what is shared by threads and locked.
///
/// A forked child inherits its parent's locks as they were, and one that another thread held will
/// never be released there. So the child does not touch the parent's value: it makes its own when it
/// first asks for it. Asking takes no lock. Values are never dropped.
///
/// # Platform
/// A child made by a bare `clone` system call, past the C library, is not noticed.
///
/// # Examples
/// ```
/// use std::sync::Mutex;
/// use polyloop::driver::PerProcess;
///
/// static NAMES: PerProcess<Mutex<Vec<String>>> = PerProcess::new(|_parents| Mutex::default());
///
/// assert!(NAMES.peek().is_none());
/// NAMES.get().lock().unwrap().push("main".into());
/// assert_eq!(NAMES.peek().unwrap().lock().unwrap().len(), 1);
/// ```
pub struct PerProcess<T: 'static> {
    /// The value of this process, or of the last one before it that had one.
    latest: AtomicPtr<Owned<T>>,
    make: fn(Option<&'static T>) -> T,
}

struct Owned<T> {
    guard: ForkGuard,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// Returns a holder without a value.
    ///
    /// `make` makes the value of a process. It is given that of the parent, if there was one, of which
    /// it must not wait for a lock.
    pub const fn new(make: fn(Option<&'static T>) -> T) -> PerProcess<T> {
        PerProcess { latest: AtomicPtr::new(ptr::null_mut()), make }
    }

    /// Lends the value of this process, which is made if there is none.
    ///
    /// # Panics
    /// As [`ForkGuard::new`].
    #[inline]
    pub fn get(&'static self) -> &'static T {
        match self.latest() {
            Some(owned) if !owned.guard.is_foreign() => &owned.value,
            inherited => self.make(inherited),
        }
    }

    /// Lends the value of this process, if there is one.
    #[inline]
    pub fn peek(&'static self) -> Option<&'static T> {
        self.latest().filter(|owned| !owned.guard.is_foreign()).map(|owned| &owned.value)
    }

    #[inline]
    fn latest(&'static self) -> Option<&'static Owned<T>> {
        let latest = self.latest.load(Ordering::Acquire);
        // SAFETY: the pointer is null, or `make` has published it by a release, never to be freed.
        unsafe { latest.as_ref() }
    }

    #[cold]
    fn make(&'static self, inherited: Option<&'static Owned<T>>) -> &'static T {
        let value = (self.make)(inherited.map(|owned| &owned.value));
        let made = Box::into_raw(Box::new(Owned { guard: ForkGuard::new(), value }));
        let old = inherited.map_or(ptr::null_mut(), |owned| ptr::from_ref(owned).cast_mut());
        let published =
            self.latest.compare_exchange(old, made, Ordering::AcqRel, Ordering::Acquire);
        if published.is_err() {
            // SAFETY: another thread was first, so no other than this one knows of the pointer, which
            // comes from `Box::into_raw`.
            drop(unsafe { Box::from_raw(made) });
            return self.get();
        }
        // SAFETY: published just now, never to be freed.
        let made = unsafe { &*made };
        &made.value
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess").finish_non_exhaustive()
    }
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of forks that led to this process. Async-signal-safe.
#[inline]
pub(super) fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

#[cold]
fn forked() -> io::Error {
    io::Error::other("a forked child cannot use its parent's selector: make a new one")
}
