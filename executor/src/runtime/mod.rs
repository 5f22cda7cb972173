//! A loop as its owner holds it: [`run`], [`Runtime`].

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

/// Makes a loop, runs `future` on it to its end, and returns what it returned.
///
/// The backend is the one that `POLYLOOP_BACKEND` names, or else the best that works. When
/// `future` is done, tasks that are left are cancelled and blocking work is waited for up to a
/// second ([`Builder::shutdown_grace`] sets another limit); for other wishes there is [`Builder`].
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
/// let answer = polyloop::run(async { 6 * 7 })?;
/// assert_eq!(answer, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[track_caller]
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

/// Starts a task in the name of the code at `spawned_at`.
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
/// For those who change something of their own before they spawn, or hold a borrow meanwhile.
///
/// # Panics
/// If there is no room for another task. The future has then been dropped.
pub(crate) fn with_room<F>(spawned_at: &'static Location<'static>, future: F) -> F {
    if current(EventLoop::has_room) == Some(false) {
        refuse(future, spawned_at);
    }
    future
}

/// Owns a loop, which runs while one of its methods does.
///
/// Dropping it cancels the tasks that are left and waits a bounded time for blocking work.
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
    /// Counted only to be pinned to its thread: the tasks in it need not be `Send`.
    event_loop: Rc<EventLoop>,
    /// The selector's descriptor, a second time, for hosts that ask for it.
    pollable_fd: OnceCell<OwnedFd>,
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

    pub(crate) fn of(event_loop: EventLoop) -> Runtime {
        let event_loop = Rc::new(event_loop);
        local_loops::add(&event_loop);
        Runtime { event_loop, pollable_fd: OnceCell::new() }
    }

    /// Lends the loop to tests that set its limits.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Starts the task that draws the tree of tasks when `signal` comes.
    pub(crate) fn spawn_dump(&self, signal: SignalFd) {
        let task = self.event_loop.spawn(dump_on(signal), Location::caller());
        self.event_loop.set_name(task, "dump".into());
        self.event_loop.set_daemon(task);
        self.event_loop.detach(task);
    }

    /// Runs the loop until `future` is done, and returns what it returned.
    ///
    /// Other tasks run meanwhile. Those that are left when `future` is done stay where they are
    /// and go on in the next call.
    ///
    /// # Errors
    /// If a loop runs on this thread already: a nested one would keep the outer from running. In
    /// a forked child of the process that made the runtime, whose descriptors it shares. What the
    /// selector reports. In debug mode, `Deadlock` if nothing can ever wake a task: see
    /// [`Builder::debug`].
    ///
    /// # Panics
    /// If `future` does.
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
            // First, so that a host hears of what the destructors of the future leave to do.
            let _announce = Announce(&self.event_loop);
            // Pinned in here, so that its destructors reach the loop as well.
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

    /// Starts a task, which runs while [`block_on`](Runtime::block_on) does.
    ///
    /// # Panics
    /// If 16,777,215 tasks are alive.
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

    /// Runs one turn of the loop for a host that has a loop of its own, and returns when the next one
    /// is due.
    ///
    /// Ready tasks are polled until none is ready or `budget` is spent. At least one is polled, and a
    /// poll that has begun is completed: the turn takes longer than `budget` by one poll at most. Tasks
    /// that keep each other ready use the whole budget, so [`Duration::MAX`] is for loops that are known
    /// to come to rest.
    ///
    /// If nothing is ready, the turn first waits for up to `timeout`, which is not part of the budget:
    /// `None` waits until something happens, zero does not wait. A host that waits by itself passes zero,
    /// whenever the last turn said so or [`pollable_fd`](Runtime::pollable_fd) is readable. Between two
    /// turns tasks may be spawned with [`spawn`](Runtime::spawn), handles are up to date, and a wake from
    /// another thread makes the descriptor readable.
    ///
    /// A task of another loop may call it too. It holds up that loop as any function does, so its
    /// `timeout` should be zero.
    ///
    /// # Errors
    /// `ResourceBusy` if this loop is running already: within one of its own tasks. In a forked child of
    /// the process that made the runtime. Any error of the selector. In debug mode, with `None`, `Deadlock` if
    /// nothing can wake the tasks.
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
    ///     // What the host does meanwhile: it waits for events of its own, for example.
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
        // Within a task of another loop, that one restores it when it ends.
        if !current(EventLoop::is_running).unwrap_or(false) {
            restore_timer_slack();
        }
        turned
    }

    /// Calls `f` with the loop as the thread's current one, so that `f` may spawn, ask handles and
    /// use sockets between two turns. No task runs meanwhile: within `f`, [`run`] and
    /// [`block_on`](Runtime::block_on) are errors.
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

    /// Returns when the next [`turn`](Runtime::turn) is due, as the last one did.
    ///
    /// For a host that has spawned, woken or cancelled something since then.
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

    /// Lends a descriptor that is readable when a [`turn`](Runtime::turn) is due, for a host to watch in
    /// its own loop. It needs to wait for nothing else.
    ///
    /// The descriptor becomes readable when a socket is ready; when a timer is due; when another thread
    /// has woken a task or sent a message, also before the first turn and after a
    /// [`block_on`](Runtime::block_on); and when tasks are ready, whether the host has spawned or woken
    /// them between two turns or a turn has left them over. It stays readable until a turn has taken
    /// what was there. A host that watches edges gets a new one if a turn has left something. Now and
    /// then a turn is requested in vain, when a timer was cancelled or moved to a later time.
    ///
    /// From the first call on, a turn after which another timer is the earliest costs one more system
    /// call. The only use of the descriptor is to be watched.
    ///
    /// # Errors
    /// `Unsupported` if the backend has no such descriptor. If no descriptor is left: it takes two.
    ///
    /// # Platform
    /// epoll and a system's own kqueue have one. select and poll do not: there a host watches
    /// [`pollable_fds`](Runtime::pollable_fds), or waits in `turn` itself. The library libkqueue has
    /// neither. Timers count milliseconds on macOS and the BSDs.
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
    /// // The host's own loop: here it is a selector.
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

    /// Fills `fds` with the descriptors that a host has to watch in its next wait: a
    /// [`turn`](Runtime::turn) is due when one of them is ready.
    ///
    /// For a host that waits in poll(2) or select(2), and for the backends of these names. They have no
    /// [`pollable_fd`](Runtime::pollable_fd), so the list has every descriptor that the loop watches, one
    /// that other threads make readable and one for timers. Elsewhere it has the `pollable_fd` alone.
    /// Ask for it before each wait: it holds until a turn runs, or tasks or sockets are touched.
    ///
    /// # Errors
    /// `Unsupported` if the selector cannot be watched from outside. If no descriptor is left; under
    /// select, if none below `FD_SETSIZE` is.
    ///
    /// # Platform
    /// Every backend has it but the library libkqueue.
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
    ///     // What a `pollfd` is made of.
    ///     let (_fd, _events) = (watched.fd, watched.poll_events());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pollable_fds(&self, fds: &mut Vec<PollableFd>) -> io::Result<()> {
        self.event_loop.pollable_fds(fds)
    }

    /// Draws the tree of tasks, with what each waits for.
    ///
    /// Inside the loop there is [`task::dump`](crate::task::dump).
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

    /// Returns a handle that reaches the loop from other threads.
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
