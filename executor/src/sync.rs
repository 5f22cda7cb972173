//! The parts of `std` that loom models replace.
//!
//! With `--cfg loom`, cross-thread code uses loom's types, so that the models check the real code and not a copy.

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
        // So that the thread does not inherit the timer slack of a wait for a deadline.
        polyloop_reactor::restore_timer_slack();
        builder.spawn(f).map(drop)
    }

    /// Returns the id of this thread.
    pub(crate) fn this_thread() -> ThreadId {
        thread::current().id()
    }

    /// Waits until `condvar` is notified or `limit` has elapsed.
    pub(crate) fn wait_at_most<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while `is_idle` returns `true`, or until `limit` has elapsed.
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

    /// Waits for a notification that may or may not arrive before the time has elapsed: models have no
    /// clock, so the lock is released once and the time has elapsed. Without a limit, a model in
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
