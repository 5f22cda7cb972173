//! The owner of a pool's threads, which loops and handles of pools share.

use std::io;
use std::mem;

use polyloop_reactor::ForkGuard;

use super::builder::BlockingPoolBuilder;
use super::threads::{Census, Queued, Threads};
use crate::sync::Arc;

/// Shares the threads of a pool, which end when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Workers {
    owner: Arc<Owner>,
}

impl Workers {
    pub(super) fn new(settings: BlockingPoolBuilder) -> Workers {
        let threads = Arc::new(Threads::new(settings));
        Workers { owner: Arc::new(Owner { threads, guard: ForkGuard::new() }) }
    }

    pub(super) fn settings(&self) -> &BlockingPoolBuilder {
        &self.owner.threads.settings
    }

    /// Returns the threads.
    ///
    /// # Errors
    /// In a forked child, which has none of the threads: their lock may have been copied locked, so the child must
    /// not wait for it.
    pub(super) fn threads(&self) -> io::Result<&Arc<Threads>> {
        if self.owner.guard.is_foreign() {
            return Err(io::Error::other(
                "a forked child cannot use its parent's blocking threads: create a new pool",
            ));
        }
        Ok(&self.owner.threads)
    }

    /// Reports whether a job is running or queued.
    pub(crate) fn is_busy(&self) -> bool {
        self.threads().is_ok_and(|threads| threads.is_busy())
    }

    pub(crate) fn census(&self) -> Census {
        self.threads().map_or_else(|_| Census::default(), |threads| threads.census())
    }
}

/// Shared by the handles of a pool but not by its threads, so that the pool ends with the last handle.
struct Owner {
    threads: Arc<Threads>,
    guard: ForkGuard,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.guard.is_foreign() {
            // The queued jobs are the parent's, and locks in them may have been copied locked.
            mem::forget(Arc::clone(&self.threads));
            return;
        }
        if self.threads.has_given_up() {
            return;
        }
        let timeout = self.threads.settings.shutdown_timeout;
        if let Err(unfinished) = self.threads.shut_down(timeout, Queued::Cancel) {
            unfinished.report();
        }
    }
}
