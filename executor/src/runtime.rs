//! A loop as its owner holds it: [`run`], [`Runtime`], [`Builder`].

use std::fmt;
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use polyloop_reactor::{Backend, Selector, default_selector};

use crate::blocking::{DEFAULT_GRACE, DEFAULT_THREADS, Pool};
use crate::clock::Clock;
use crate::event_loop::EventLoop;
use crate::spin::Spin;
use crate::waker::{current, within};
use crate::{Handle, JoinHandle};

/// Makes a loop, runs `future` on it to its end, and returns what it returned.
///
/// The backend is the one that `POLYLOOP_BACKEND` names, or else the best that works. When
/// `future` is done, tasks that are left are cancelled and blocking work is waited for up to a
/// second; for other wishes there is [`Builder`].
///
/// # Errors
/// If a loop runs on this thread already; if the backend is unknown or does not work; what the
/// selector reports.
///
/// # Panics
/// If `future` does. A panic of another task ends that task only.
///
/// # References
/// Python's `asyncio.run`.
///
/// # Examples
/// ```
/// let answer = polyloop_executor::run(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    check_not_nested("run")?;
    Runtime::new()?.block_on(future)
}

/// Starts a task on the loop that runs on this thread.
///
/// It begins in the loop's next turn. The future need not be `Send`: it never leaves the thread.
///
/// # Panics
/// Outside a loop, where [`Runtime::spawn`] and [`Handle::spawn`](crate::Handle::spawn) serve.
/// If 16,777,215 tasks are alive.
///
/// # References
/// Python's `asyncio.create_task`.
///
/// # Examples
/// ```
/// # polyloop_executor::run(async {
/// let task = polyloop_executor::spawn(async { "done" });
/// assert_eq!(task.await.unwrap(), "done");
/// # }).unwrap();
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let spawned_at = Location::caller();
    let id = current(|event_loop| event_loop.spawn(future, spawned_at));
    JoinHandle::of_task(id.expect("`spawn` was called outside a loop"))
}

/// Owns a loop, which runs while one of its methods does.
///
/// Dropping it cancels the tasks that are left and waits a bounded time for blocking work.
///
/// # Examples
/// ```
/// use polyloop_executor::Runtime;
///
/// let runtime = Runtime::new()?;
/// let task = runtime.spawn(async { 6 * 7 });
/// assert_eq!(runtime.block_on(task)?.unwrap(), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Runtime {
    /// Counted only to be pinned to its thread: the tasks in it need not be `Send`.
    event_loop: Rc<EventLoop>,
}

impl Runtime {
    /// Makes a loop with the default settings.
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn new() -> io::Result<Runtime> {
        Builder::new().build()
    }

    /// Returns the settings to change before making a loop.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Runs the loop until `future` is done, and returns what it returned.
    ///
    /// Other tasks run meanwhile. Those that are left when `future` is done stay where they are
    /// and go on in the next call.
    ///
    /// # Errors
    /// If a loop runs on this thread already: a nested one would keep the outer from running.
    /// What the selector reports.
    ///
    /// # Panics
    /// If `future` does.
    pub fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        check_not_nested("block_on")?;
        within(&self.event_loop, || {
            // Pinned in here, so that its destructors reach the loop as well.
            let mut future = pin!(future);
            let id = self.event_loop.begin_main();
            if let Poll::Ready(output) =
                self.event_loop.poll_main(id, |cx| future.as_mut().poll(cx))
            {
                return Ok(output);
            }
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

    /// Starts a task, which runs while [`block_on`](Runtime::block_on) does.
    ///
    /// # Panics
    /// If 16,777,215 tasks are alive.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
    {
        JoinHandle::of_task(self.event_loop.spawn(future, Location::caller()))
    }

    /// Returns a handle that reaches the loop from other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(self.event_loop.number(), self.event_loop.incarnation())
    }

    /// Returns the backend of the loop's selector.
    pub fn backend(&self) -> Backend {
        self.event_loop.reactor.borrow().backend()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        within(&self.event_loop, || self.event_loop.shut_down());
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Runtime").field(&self.event_loop).finish()
    }
}

/// Settings of a loop that is to be made.
///
/// # Examples
/// ```
/// use polyloop_executor::Builder;
/// use polyloop_reactor::Backend;
///
/// let runtime = Builder::new().backend(Backend::Poll).build()?;
/// assert_eq!(runtime.backend(), Backend::Poll);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is made before `build` is called"]
pub struct Builder {
    backend: Option<Backend>,
    selector: Option<Box<dyn Selector>>,
    blocking_threads: usize,
    shutdown_grace: Duration,
    virtual_time: bool,
    spin: Duration,
}

impl Builder {
    /// Begins with the default settings.
    pub fn new() -> Builder {
        Builder {
            backend: None,
            selector: None,
            blocking_threads: DEFAULT_THREADS,
            shutdown_grace: DEFAULT_GRACE,
            virtual_time: false,
            spin: Duration::ZERO,
        }
    }

    /// Chooses the backend, whatever `POLYLOOP_BACKEND` says.
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = Some(backend);
        self
    }

    /// Brings a selector of one's own, whatever else is chosen.
    pub fn selector(mut self, selector: Box<dyn Selector>) -> Builder {
        self.selector = Some(selector);
        self
    }

    /// Bounds the threads for [`spawn_blocking`](crate::spawn_blocking): 64 by default, 1 at
    /// least.
    pub fn blocking_threads(mut self, max_threads: usize) -> Builder {
        self.blocking_threads = max_threads;
        self
    }

    /// Bounds how long the end of the loop waits for blocking work: one second by default.
    ///
    /// Work that takes longer goes on on its thread, and its result is dropped.
    pub fn shutdown_grace(mut self, grace: Duration) -> Builder {
        self.shutdown_grace = grace;
        self
    }

    /// Replaces the loop's clock by one that jumps to the next deadline when nothing can run.
    ///
    /// A test of an hour's timers then takes a millisecond and is exact. Only timers see that
    /// clock, and [`now`](crate::now); work on other threads takes the time it takes.
    pub fn virtual_time(mut self, virtual_time: bool) -> Builder {
        self.virtual_time = virtual_time;
        self
    }

    /// Lets the loop look for new work for up to `limit` before it sleeps. Off by default.
    ///
    /// Waking a processor that has halted takes tens of microseconds. With a limit of about as
    /// much, a loop that is asked again as soon as it has answered, by one client or by another
    /// thread, is spared that, at the price of a busy processor. It looks only while that has
    /// lately paid: when events come further apart, it soon sleeps as if this were off.
    pub fn spin(mut self, limit: Duration) -> Builder {
        self.spin = limit;
        self
    }

    /// Makes the loop.
    ///
    /// # Errors
    /// If the backend is unknown, not of this system, or does not work; if no descriptor is
    /// left; if 1,024 loops are alive.
    pub fn build(self) -> io::Result<Runtime> {
        let selector = match (self.selector, self.backend) {
            (Some(selector), _) => selector,
            (None, Some(backend)) => backend.open()?,
            (None, None) => default_selector()?,
        };
        let clock = if self.virtual_time { Clock::manual() } else { Clock::system() };
        let pool = Pool::new(self.blocking_threads, self.shutdown_grace);
        Ok(Runtime {
            event_loop: Rc::new(EventLoop::new(selector, clock, pool, Spin::new(self.spin))?),
        })
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

fn check_not_nested(name: &str) -> io::Result<()> {
    match current(|_| ()) {
        None => Ok(()),
        Some(()) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("`{name}` was called inside a running loop: await or spawn the future instead"),
        )),
    }
}
