//! Notices that the process is a forked child, without a system call for each look.
//!
//! A child shares its parent's epoll set, eventfd and pipes: what it changes there, it changes
//! for the parent. So everything that would touch them asks a [`ForkGuard`] first.
//!
//! A child made by a bare `clone` system call, past the C library, is not noticed.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::c_int;

/// Counts the forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

static INSTALL: Once = Once::new();

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
/// let guard = polyloop_reactor::ForkGuard::new();
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
        INSTALL.call_once(|| {
            // SAFETY: `in_child` takes nothing, returns nothing, does one atomic addition (which
            // is async-signal-safe, as a child of a threaded process demands) and lives for ever.
            let error = unsafe { pthread_atfork(None, None, Some(in_child)) };
            assert_eq!(error, 0, "pthread_atfork: no memory for the handler");
        });
        ForkGuard { born: generation() }
    }

    /// Reports whether this process is another one. Async-signal-safe; one relaxed load.
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

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of forks that led to this process. Async-signal-safe.
pub(super) fn generation() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

#[cold]
fn forked() -> io::Error {
    io::Error::other("a forked child cannot use its parent's selector: make a new one")
}
