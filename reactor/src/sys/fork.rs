//! Detects that the process is a forked child, without a system call for each check.
//!
//! A child shares its parent's epoll set, eventfd and pipes: what it changes there, it changes
//! for the parent. So everything that would touch them checks a [`ForkGuard`] first.
//!
//! A child that is created by a bare `clone` system call, without the C library, is not detected.

use std::fmt;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use libc::c_int;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Set once forks are counted. Two threads that find it unset install the handler twice, and each
/// fork then counts for two, which does no harm. A `Once` would not do: a child that is forked while
/// another thread is in it could never pass it.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    // libc declares it for some systems only; all supported ones have it.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// Identifies the process that created it, to detect a forked child.
///
/// # Platform
/// A child that is created by a bare `clone` system call, without the C library, is not detected.
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
    /// Creates a guard for this process.
    ///
    /// # Panics
    /// Panics if there is no memory for the fork handler.
    #[expect(clippy::new_without_default, reason = "it identifies this process, not a default one")]
    #[track_caller]
    pub fn new() -> ForkGuard {
        if !IS_INSTALLED.load(Ordering::Acquire) {
            // SAFETY: `in_child` takes nothing, returns nothing, does one atomic addition (which
            // is async-signal-safe, as a child of a threaded process demands) and is never unloaded.
            let error = unsafe { pthread_atfork(None, None, Some(in_child)) };
            assert_eq!(error, 0, "pthread_atfork: no memory for the handler");
            IS_INSTALLED.store(true, Ordering::Release);
        }
        ForkGuard { born: generation() }
    }

    /// Returns whether this is another process than the one that created the guard.
    ///
    /// This function is async-signal-safe and costs one relaxed load.
    #[inline]
    pub fn is_foreign(self) -> bool {
        self.born != generation()
    }

    /// Returns an error in a forked child.
    ///
    /// # Errors
    /// An error in any process but the one that created the guard.
    #[inline]
    pub fn check(self) -> io::Result<()> {
        if self.is_foreign() { Err(forked()) } else { Ok(()) }
    }
}

/// A static value that each process initializes for itself, such as a lock that threads share.
///
/// A forked child inherits its parent's locks as they were, and a lock that another thread held is
/// never released there. So a child does not use the parent's value: it creates its own at the first
/// access. Access takes no lock. Values are never dropped.
///
/// # Platform
/// A child that is created by a bare `clone` system call, without the C library, is not detected.
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
    /// Creates a static without a value.
    ///
    /// `make` creates the value of a process from the value of the parent, if there is one. It must not
    /// wait for a lock in the parent's value.
    pub const fn new(make: fn(Option<&'static T>) -> T) -> PerProcess<T> {
        PerProcess { latest: AtomicPtr::new(ptr::null_mut()), make }
    }

    /// Returns the value of this process. Creates it at the first call.
    ///
    /// # Panics
    /// Panics as [`ForkGuard::new`] does.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        match self.latest() {
            Some(owned) if !owned.guard.is_foreign() => &owned.value,
            inherited => self.make(inherited),
        }
    }

    /// Returns the value of this process, if it has been created.
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
            // SAFETY: another thread was first, so only this one has the pointer, which
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
    io::Error::other("a forked child cannot use its parent's selector: open a new one")
}
