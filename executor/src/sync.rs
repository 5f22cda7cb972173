//! The parts of `std` that models replace.
//!
//! Built with `--cfg loom`, what crosses threads uses loom's types instead, so that the models
//! check the code that runs and not a copy of it.

pub(crate) use imp::{
    Arc, AtomicU8, Condvar, Mutex, MutexGuard, ThreadId, spawn_thread, this_thread, wait_at_most,
    wait_idle,
};

#[cfg(not(loom))]
mod imp {
    use std::io;
    use std::thread;
    use std::time::Duration;

    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::AtomicU8};
    pub(crate) use std::thread::ThreadId;

    /// Starts a thread.
    pub(crate) fn spawn_thread(
        name: String,
        stack_size: Option<usize>,
        f: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let mut builder = thread::Builder::new().name(name);
        if let Some(n_bytes) = stack_size {
            builder = builder.stack_size(n_bytes);
        }
        // Or the thread would inherit what a wait for a deadline has asked for.
        polyloop_reactor::restore_timer_slack();
        builder.spawn(f).map(drop)
    }

    /// Says which thread this is.
    pub(crate) fn this_thread() -> ThreadId {
        thread::current().id()
    }

    /// Waits until `condvar` is notified, or `limit` is over.
    pub(crate) fn wait_at_most<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while `is_idle` says so, or until `limit` is over.
    pub(crate) fn wait_idle<'a, T>(
        (_, condvar): (&'a Mutex<T>, &Condvar),
        guard: MutexGuard<'a, T>,
        limit: Duration,
        is_idle: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        condvar.wait_timeout_while(guard, limit, is_idle).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(loom)]
mod imp {
    use std::io;
    use std::time::Duration;

    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard, atomic::AtomicU8};
    use loom::thread;
    pub(crate) use loom::thread::ThreadId;

    pub(crate) fn this_thread() -> ThreadId {
        thread::current().id()
    }

    pub(crate) fn spawn_thread(
        _name: String,
        _stack_size: Option<usize>,
        f: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        drop(thread::spawn(f));
        Ok(())
    }

    /// Waits without a limit: a model in which the notification is missing does not end.
    pub(crate) fn wait_at_most<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        _limit: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait(guard).expect("no model panics under a lock")
    }

    /// Waits for a notification that may or may not come before the time is over: models have no
    /// clock, so the lock is given up once and the time is over. If there is no limit, a model in
    /// which the notification is missing does not end.
    pub(crate) fn wait_idle<'a, T>(
        (mutex, condvar): (&'a Mutex<T>, &Condvar),
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut is_idle: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        if limit == Duration::MAX {
            while is_idle(&mut guard) {
                guard = condvar.wait(guard).expect("no model panics under a lock");
            }
            return guard;
        }
        drop(guard);
        thread::yield_now();
        mutex.lock().expect("no model panics under a lock")
    }
}
