//! A pool as a loop holds it: its threads, and what ends them.

use std::io;
use std::mem;

use polyloop_reactor::ForkGuard;

use super::builder::BlockingPoolBuilder;
use super::threads::{Census, Queued, Threads};
use crate::sync::Arc;

/// Shares the threads of a pool. They end when the last of its clones is dropped.
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

    /// Lends the threads.
    ///
    /// # Errors
    /// In a forked child, which has none of its parent's threads. Their lock may have been copied locked.
    pub(super) fn threads(&self) -> io::Result<&Arc<Threads>> {
        if self.owner.guard.is_foreign() {
            return Err(io::Error::other(
                "a forked child cannot use its parent's blocking threads: make a new pool",
            ));
        }
        Ok(&self.owner.threads)
    }

    /// Reports whether a job is queued or runs.
    pub(crate) fn is_busy(&self) -> bool {
        self.threads().is_ok_and(|threads| threads.is_busy())
    }

    pub(crate) fn census(&self) -> Census {
        self.threads().map_or_else(|_| Census::default(), |threads| threads.census())
    }
}

/// What the handles of a pool share and its threads do not, so that it ends with the last handle.
struct Owner {
    threads: Arc<Threads>,
    guard: ForkGuard,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.guard.is_foreign() {
            // The jobs in the queue are the parent's, and what they hold may be locked.
            mem::forget(Arc::clone(&self.threads));
            return;
        }
        if self.threads.has_given_up() {
            return;
        }
        let grace = self.threads.settings.shutdown_grace;
        if let Err(unfinished) = self.threads.shut_down(grace, Queued::Cancel) {
            unfinished.tell();
        }
    }
}
