//! A runtime inside the event loop of a host, which drives it turn by turn.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use polyloop_reactor::{PollableFd, restore_timer_slack};

use super::run::nested;
use crate::event_loop::EventLoop;
use crate::raw::current::{current, within};
use crate::{NextTurn, Runtime};

impl Runtime {
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
    /// No task runs meanwhile. Inside `f`, [`run`](crate::run) and [`block_on`](Runtime::block_on) return errors.
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
}
