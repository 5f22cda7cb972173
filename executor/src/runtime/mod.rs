//! [`run`], [`spawn`] and [`Runtime`], the owner of a loop.

pub(crate) mod run;

mod hosting;

pub(crate) mod builder;

pub(crate) mod handle;

pub(crate) mod callback;

pub(crate) mod next_turn;

pub(crate) mod metrics;

pub(crate) mod no_runtime;

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use polyloop_reactor::{Backend, SignalFd, restore_timer_slack};

use crate::event_loop::EventLoop;
use crate::event_loop::host::Announce;
use crate::event_loop::local_loops;
use crate::inspect::dump_signal::dump_on;
use crate::raw::current::within;
use crate::runtime::metrics::Metrics;
use crate::runtime::run::check_not_nested;
use crate::task::Dump;
use crate::{Builder, Handle, JoinHandle};

/// A single-threaded runtime: the owner of an event loop and its tasks.
///
/// The loop runs only inside [`block_on`](Runtime::block_on) and [`turn`](Runtime::turn). Dropping the runtime
/// cancels the remaining tasks, and waits a bounded time for blocking work.
///
/// # Examples
/// ```
/// use polyloop::Runtime;
///
/// let runtime = Runtime::new()?;
/// let task = runtime.spawn(async { 6 * 7 });
/// assert_eq!(runtime.block_on(task)?.unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    /// In an `Rc`, so that the runtime is `!Send`: its tasks need not be `Send`.
    event_loop: Rc<EventLoop>,
    /// A duplicate of the selector's descriptor, for hosts.
    pollable_fd: OnceCell<OwnedFd>,
}

impl Runtime {
    /// Creates a runtime with the default settings.
    ///
    /// # Errors
    /// Returns the errors of [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// Returns a [`Builder`] with the default settings.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn of(event_loop: EventLoop) -> Runtime {
        let event_loop = Rc::new(event_loop);
        local_loops::add(&event_loop);
        Runtime { event_loop, pollable_fd: OnceCell::new() }
    }

    /// Returns the loop, for tests that set its limits.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Spawns the task that prints a dump of all tasks when `signal` arrives.
    pub(crate) fn spawn_dump(&self, signal: SignalFd) {
        let task = self.event_loop.spawn(dump_on(signal), Location::caller());
        self.event_loop.set_name(task, "dump".into());
        self.event_loop.set_daemon(task);
        self.event_loop.detach(task);
    }

    /// Runs `future` to completion, and returns its output.
    ///
    /// Spawned tasks run meanwhile. Tasks that have not finished when `future` completes stay in the runtime, and
    /// continue in the next call.
    ///
    /// # Errors
    /// - `ResourceBusy` if a runtime is already running on this thread, because a nested loop would block the outer
    ///   one.
    /// - `Other` in a forked child of the process that created the runtime.
    /// - In debug mode, `Deadlock` if nothing can ever wake a task: see [`Builder::debug`].
    /// - The errors of the selector.
    ///
    /// # Panics
    /// Panics if `future` panics.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop::Runtime::new()?;
    /// let first = runtime.block_on(async { 1 })?;
    /// let second = runtime.block_on(async { first + 1 })?;
    /// assert_eq!(second, 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        struct EndMain<'a>(&'a EventLoop);

        impl Drop for EndMain<'_> {
            #[inline(always)]
            fn drop(&mut self) {
                self.0.end_main();
                restore_timer_slack();
            }
        }

        check_not_nested("block_on")?;
        self.event_loop.check_fork()?;
        self.event_loop.announce_main(Location::caller());
        self.event_loop.resume();
        within(&self.event_loop, || {
            // First, so that a host is notified of tasks that the future's destructors wake.
            let _announce = Announce(&self.event_loop);
            // Pinned here, so that its destructors run inside the loop.
            let mut future = pin!(future);
            let _end = EndMain(&self.event_loop);
            let id = self.event_loop.begin_main()?;
            if let Poll::Ready(output) =
                self.event_loop.poll_main(id, |cx| future.as_mut().poll(cx))
            {
                return Ok(output);
            }
            self.event_loop.note_main(id);
            let mut output = None;
            self.event_loop.run_until(&mut |cx| match future.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(value) => {
                    output = Some(value);
                    true
                }
            })?;
            Ok(output.expect("the loop runs until the future is done"))
        })
    }

    /// Spawns a task, which runs inside [`block_on`](Runtime::block_on) and [`turn`](Runtime::turn).
    ///
    /// # Panics
    /// Panics if 16,777,215 tasks are alive.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop::Runtime::new()?;
    /// let task = runtime.spawn(async { 7 });
    /// assert_eq!(runtime.block_on(task)?.unwrap(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        let task = self.event_loop.spawn(future, Location::caller());
        self.event_loop.announce();
        JoinHandle::of_task(task)
    }

    /// Returns the tree of tasks, with what each waits for.
    ///
    /// Inside a task, use [`task::dump`](crate::task::dump).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{Runtime, sleep};
    ///
    /// let runtime = Runtime::new()?;
    /// runtime.spawn(sleep(Duration::from_secs(3_600))).named("nap");
    /// runtime.turn(Some(Duration::ZERO), Duration::MAX)?;
    /// let dump = runtime.dump().to_string();
    /// assert!(dump.contains("\"nap\"") && dump.contains("timer in 3599s"), "{dump}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn dump(&self) -> Dump {
        Dump::new(self.event_loop.snapshot())
    }

    /// Returns a handle to the loop for other threads.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop::Runtime::new()?;
    /// let handle = runtime.handle();
    /// std::thread::spawn(move || handle.call_soon(|| println!("on the loop's thread")));
    /// runtime.block_on(polyloop::yield_now())?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn handle(&self) -> Handle {
        Handle::new(self.event_loop.share_address())
    }

    /// Returns the counters of the loop.
    ///
    /// Inside a task, use [`runtime::metrics`](crate::metrics).
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop::Runtime::new()?;
    /// runtime.spawn(std::future::pending::<()>());
    /// assert_eq!(runtime.metrics().tasks, 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.event_loop.metrics()
    }

    /// Returns the backend of the loop's selector.
    pub fn backend(&self) -> Backend {
        self.event_loop.backend()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        within(&self.event_loop, || self.event_loop.shut_down());
        local_loops::remove(&self.event_loop);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.event_loop).finish()
    }
}
