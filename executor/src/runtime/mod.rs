//! [`run`], [`spawn`] and [`Runtime`], the owner of a loop.

pub(crate) mod builder;

pub(crate) mod handle;

pub(crate) mod callback;

pub(crate) mod next_turn;

pub(crate) mod metrics;

pub(crate) mod no_runtime;

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use polyloop_reactor::{Backend, PollableFd, SignalFd, restore_timer_slack};

use crate::event_loop::EventLoop;
use crate::event_loop::host::Announce;
use crate::event_loop::local_loops;
use crate::event_loop::tasks::refuse;
use crate::inspect::dump_signal::dump_on;
use crate::raw::current::{current, within};
use crate::runtime::no_runtime::no_runtime;
use crate::task::Dump;
use crate::{Builder, Handle, JoinHandle, NextTurn};

/// Creates a runtime, runs `future` on it to completion, and returns the future's output.
///
/// The backend is the one named by the environment variable `POLYLOOP_BACKEND`, or else the best that the system
/// supports. When `future` completes, the remaining tasks are cancelled, and the runtime waits up to one second for
/// blocking work. [`Builder`] changes these settings.
///
/// # Errors
/// `ResourceBusy` if a runtime is already running on this thread: await or spawn the future instead. Otherwise
/// returns the errors of [`Builder::build`] and of the selector.
///
/// # Panics
/// Panics if `future` panics. A panic in any other task ends only that task.
///
/// # References
/// Python's `asyncio.run`.
///
/// # Examples
/// ```
/// let answer = polyloop::run(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> io::Result<F::Output> {
    check_not_nested("run")?;
    Runtime::new()?.block_on(future)
}

/// Spawns a task on the current thread's runtime, and returns a [`JoinHandle`] for its output.
///
/// The task is first polled after the current task yields. It runs whether or not the handle is awaited, and
/// dropping the handle detaches the task. The future need not be `Send`, because it stays on this thread.
///
/// # Panics
/// Panics if no runtime is running on this thread: use [`Runtime::spawn`] or
/// [`Handle::spawn`](crate::Handle::spawn) there. Panics if 16,777,215 tasks are alive.
///
/// # References
/// Python's `asyncio.create_task`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let task = polyloop::spawn(async { "done" });
/// assert_eq!(task.await.unwrap(), "done");
/// # }).unwrap();
/// ```
#[doc(alias = "create_task")]
#[doc(alias = "shield")]
#[doc(alias = "spawn_local")]
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_at(Location::caller(), future)
}

/// Spawns a task whose location is `spawned_at`.
#[inline]
#[track_caller]
pub(crate) fn spawn_at<F>(
    spawned_at: &'static Location<'static>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    match current(|event_loop| event_loop.spawn(future, spawned_at)) {
        Some(id) => JoinHandle::of_task(id),
        None => no_runtime("`spawn` was called"),
    }
}

/// Returns `future` if it can be spawned.
///
/// For callers that change their state before they spawn, or hold a borrow meanwhile.
///
/// # Panics
/// Panics if the task table is full, after the future has been dropped.
pub(crate) fn with_room<F>(spawned_at: &'static Location<'static>, future: F) -> F {
    if current(EventLoop::has_room) == Some(false) {
        refuse(future, spawned_at);
    }
    future
}

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

    /// Runs one turn of the loop for a host with another event loop, and returns when the next one is due.
    ///
    /// Ready tasks are polled until none is ready or `budget` is spent. At least one task is polled, and polls are
    /// never interrupted, so a turn exceeds `budget` by at most one poll. Tasks that keep waking each other use the
    /// whole budget: pass [`Duration::MAX`] only if the tasks are known to become idle.
    ///
    /// If no task is ready, the turn first waits for up to `timeout`, which does not count towards the budget. `None`
    /// waits for the next event, and zero does not wait. A host that waits itself passes zero, and calls `turn` when
    /// the returned [`NextTurn`] is due or [`pollable_fd`](Runtime::pollable_fd) is readable.
    ///
    /// Between two turns the host may [`spawn`](Runtime::spawn) tasks and use their handles. `turn` may also be called
    /// inside a task of another loop, which it blocks meanwhile, so `timeout` should be zero there.
    ///
    /// # Errors
    /// - `ResourceBusy` inside a task of this loop.
    /// - `Other` in a forked child of the process that created the runtime.
    /// - In debug mode, with `None`, `Deadlock` if nothing can ever wake a task.
    /// - The errors of the selector.
    ///
    /// # References
    /// GLib's `g_main_context_iteration`, libuv's `uv_run` with `UV_RUN_NOWAIT`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{Runtime, sleep};
    ///
    /// let runtime = Runtime::new()?;
    /// let task = runtime.spawn(sleep(Duration::from_millis(1)));
    /// while !task.is_finished() {
    ///     let next = runtime.turn(Some(Duration::ZERO), Duration::from_millis(5))?;
    ///     // The host handles its other events here.
    ///     std::thread::sleep(next.timeout().unwrap_or_default());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn turn(&self, timeout: Option<Duration>, budget: Duration) -> io::Result<NextTurn> {
        if self.event_loop.is_running() {
            return Err(nested("turn"));
        }
        self.event_loop.check_fork()?;
        let turned = within(&self.event_loop, || self.event_loop.turn(timeout, budget));
        // Inside a task of another loop, that loop restores it.
        if !current(EventLoop::is_running).unwrap_or(false) {
            restore_timer_slack();
        }
        turned
    }

    /// Calls `f` inside the runtime, so that `f` can spawn tasks and create sockets and timers.
    ///
    /// No task runs meanwhile. Inside `f`, [`run`] and [`block_on`](Runtime::block_on) return errors.
    ///
    /// # References
    /// tokio's `Runtime::enter`.
    ///
    /// # Examples
    /// ```
    /// let runtime = polyloop::Runtime::new()?;
    /// let task = runtime.enter(|| polyloop::spawn(async { 7 }));
    /// assert_eq!(runtime.block_on(task)?.unwrap(), 7);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        self.event_loop.announcing(|| within(&self.event_loop, f))
    }

    /// Returns when the next [`turn`](Runtime::turn) is due.
    ///
    /// The last turn returned the same, unless the host has spawned, woken or cancelled tasks since.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{Runtime, sleep};
    /// use polyloop::runtime::NextTurn;
    ///
    /// let runtime = Runtime::new()?;
    /// assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
    /// runtime.spawn(sleep(Duration::from_secs(3_600)));
    /// assert_eq!(runtime.next_turn(), NextTurn::Now);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn next_turn(&self) -> NextTurn {
        self.event_loop.next_turn()
    }

    /// Returns a descriptor that is readable when a [`turn`](Runtime::turn) is due, for a host's event loop to watch.
    ///
    /// The descriptor is readable when a socket is ready, a timer is due, another thread has woken a task or sent a
    /// message, the host has spawned or woken a task, or the last turn left ready tasks. It stays readable until a
    /// turn has handled these. An edge-triggered host gets a new edge if a turn leaves work. A cancelled or postponed
    /// timer may cause one turn without events.
    ///
    /// Use the descriptor only for waiting. Once this has been called, a turn that ends with an earlier deadline than
    /// before takes one more system call.
    ///
    /// # Errors
    /// `Unsupported` if the backend has no such descriptor. Returns an error if the process has no two free
    /// descriptors.
    ///
    /// # Platform
    /// Available with epoll and kqueue. With select and poll, watch [`pollable_fds`](Runtime::pollable_fds), or wait in
    /// `turn`. libkqueue supports neither. On macOS and the BSDs, its timers have a resolution of one millisecond.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{Runtime, sleep};
    /// use polyloop::Backend;
    /// use polyloop::selectors::{Events, Interest, Mode, Token};
    ///
    /// let runtime = Runtime::new()?;
    /// let task = runtime.spawn(sleep(Duration::from_millis(1)));
    ///
    /// // The host's event loop: a selector in this example.
    /// let (mut host, mut events) = (Backend::Poll.open()?, Events::with_capacity(8));
    /// let fd = runtime.pollable_fd()?;
    /// host.register(fd, Token::from_raw(1), Interest::READABLE, Mode::Level)?;
    /// while !task.is_finished() {
    ///     host.select(&mut events, None)?;
    ///     runtime.turn(Some(Duration::ZERO), Duration::from_millis(2))?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pollable_fd(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(fd) = self.pollable_fd.get() {
            return Ok(fd.as_fd());
        }
        let fd = self.event_loop.open_pollable_fd()?.ok_or_else(|| {
            let message = format!(
                "the backend {} has no descriptor to watch: wait in `turn`, or for `pollable_fds`",
                self.backend()
            );
            io::Error::new(io::ErrorKind::Unsupported, message)
        })?;
        Ok(self.pollable_fd.get_or_init(|| fd).as_fd())
    }

    /// Fills `fds` with the descriptors that a host has to watch in its next wait: a [`turn`](Runtime::turn) is due
    /// when one of them is ready.
    ///
    /// This is for hosts around poll(2) or select(2), with any backend. With the backends poll and select, the list
    /// has every descriptor that is registered with the loop, a wake-up descriptor and one for timers. With the others
    /// it has only the [`pollable_fd`](Runtime::pollable_fd). The list is valid until the next turn, or until the host
    /// uses tasks or sockets of the runtime.
    ///
    /// # Errors
    /// `Unsupported` if the selector cannot be watched. Returns an error if no descriptor is free or, with select, none
    /// below `FD_SETSIZE`.
    ///
    /// # Platform
    /// Available with every backend except libkqueue.
    ///
    /// # References
    /// libcurl's `curl_multi_waitfds`, and `curl_multi_perform` for the turn.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{Runtime, sleep};
    /// use polyloop::Backend;
    ///
    /// let runtime = Runtime::builder().backend(Backend::Poll).build()?;
    /// runtime.spawn(sleep(Duration::from_millis(1)));
    /// let mut fds = Vec::new();
    /// runtime.pollable_fds(&mut fds)?;
    /// for watched in &fds {
    ///     // The fields of a `pollfd`.
    ///     let (_fd, _events) = (watched.fd, watched.poll_events());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        self.event_loop.pollable_fds(fds)
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

    /// Returns the backend of the loop's selector.
    pub fn backend(&self) -> Backend {
        self.event_loop.backend()
    }
}

/// Lends what [`pollable_fd`](Runtime::pollable_fd) does, for whoever asks for `AsFd`.
///
/// # Panics
/// Where `pollable_fd` is an error: with the backends select and poll.
impl AsFd for Runtime {
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pollable_fd().expect("the runtime has a descriptor to watch")
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

#[inline]
fn check_not_nested(name: &str) -> io::Result<()> {
    match current(|event_loop| event_loop.is_running()) {
        None => Ok(()),
        Some(true) => Err(nested(name)),
        Some(false) => Err(within_enter(name)),
    }
}

#[cold]
fn nested(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("`{name}` was called inside a running loop: await or spawn the future instead"),
    )
}

#[cold]
fn within_enter(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("`{name}` was called inside `Runtime::enter`: call it when `enter` has returned"),
    )
}
