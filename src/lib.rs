//! An async runtime with one event loop per thread, over select, poll, epoll or kqueue.
//!
//! # A first program
//! [`run`] creates a runtime, runs a future on it to completion, and returns the future's output. [`spawn`] spawns a
//! task on the current runtime; awaiting its [`JoinHandle`] returns the task's output, or a [`JoinError`].
//!
//! ```
//! use std::time::Duration;
//!
//! async fn say(after: Duration, what: &'static str) -> &'static str {
//!     polyloop::sleep(after).await;
//!     what
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     polyloop::run(async {
//!         let world = polyloop::spawn(say(Duration::from_millis(2), "world"));
//!         let hello = say(Duration::from_millis(1), "hello").await;
//!         assert_eq!((hello, world.await.unwrap()), ("hello", "world"));
//!     })
//! }
//! ```
//!
//! All tasks of a runtime run on its thread, one at a time. They need not be `Send`, and can share state through `Rc`,
//! `Cell` and `RefCell`. A task runs until it awaits a future that is not ready, so code that blocks, or computes for
//! long without an await, blocks the other tasks.
//!
//! # Sockets
//! [`net`] has TCP, UDP, Unix-domain sockets and pipes. Their methods take `&self`, so one task can read from a stream
//! while another writes to it.
//!
//! ```
//! use polyloop::net::{TcpListener, TcpStream};
//!
//! polyloop::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0")?;
//!     let addr = listener.local_addr()?;
//!     let server = polyloop::spawn(async move {
//!         let (stream, _) = listener.accept().await?;
//!         stream.write_all(b"hello").await
//!     });
//!     let stream = TcpStream::connect(addr).await?;
//!     let mut buffer = [0; 5];
//!     stream.read_exact(&mut buffer).await?;
//!     assert_eq!(&buffer, b"hello");
//!     server.await.unwrap()
//! })??;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [`net::Server`] accepts connections and spawns a task for each. It keeps serving when file descriptors run out,
//! clients reset connections, or handlers panic.
//!
//! # Time and cancellation
//! [`sleep`] waits, [`timeout`] limits how long a future may take, and [`time::interval`] ticks periodically.
//!
//! Dropping a future cancels it. Each async function documents under *Cancel safety* what a drop loses.
//! [`JoinHandle::abort`] cancels a task, a [`CancellationToken`] requests that tasks stop, and the tasks of a
//! [`TaskGroup`] end before its scope does.
//!
//! ```
//! use std::time::Duration;
//!
//! polyloop::run(async {
//!     let never = std::future::pending::<()>();
//!     let result = polyloop::timeout(Duration::from_millis(1), never).await;
//!     assert!(result.is_err());
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Several futures at once
//! [`join!`] and [`try_join!`] wait for several futures, [`gather`] for any number of the same type, and [`race`] for
//! the first of two. A [`JoinSet`] returns the outputs of its tasks as they finish.
//!
//! ```
//! polyloop::run(async {
//!     let squares = polyloop::gather((1..=3).map(|n| async move { n * n })).await;
//!     let squares: Result<Vec<_>, _> = squares.into_iter().collect();
//!     assert_eq!(squares.unwrap(), [1, 4, 9]);
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Threads and blocking work
//! [`spawn_blocking`] runs a blocking function on a thread pool. A [`Handle`] spawns tasks and calls functions on a
//! runtime from any thread, and [`channel`] sends messages between tasks and threads. To use several cores, run a
//! runtime on each of several threads.
//!
//! ```
//! polyloop::run(async {
//!     let sum = polyloop::spawn_blocking(|| (1..=100).sum::<u32>()).await.unwrap();
//!     assert_eq!(sum, 5_050);
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Choosing a backend
//! Every backend that the system supports is compiled in. [`Builder::backend`] selects one for a runtime, and the
//! environment variable `POLYLOOP_BACKEND` for a program. The default is epoll on Linux, and kqueue on macOS and the
//! BSDs.
//!
//! ```
//! use polyloop::{Backend, Runtime};
//!
//! let runtime = Runtime::builder().backend(Backend::Poll).build()?;
//! runtime.block_on(async { /* … */ })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # When a program hangs
//! [`task::dump`] returns the tree of tasks: where each was spawned, and what each waits for. In debug mode
//! ([`Builder::debug`], or `POLYLOOP_DEBUG=1`), a deadlock is an error with that tree, and slow polls and panics of
//! tasks that were never joined are reported.
//!
//! # Inside another event loop
//! [`Runtime::turn`] runs one turn for a host with another event loop, and returns when the next one is due.
//! [`Runtime::pollable_fd`] is the descriptor for the host to watch.
//!
//! # More
//! The names above are at the root of the crate. The modules have everything else:
//!
//! - [`time`]: sleeps, intervals, deadlines and virtual time.
//! - [`future`]: combinators. [`scope`]: structured concurrency and cancellation.
//! - [`task`]: names, states and dumps of tasks. [`runtime`]: settings, metrics, turns for a host.
//! - [`blocking`]: thread pools. [`callback`]: plain functions that the loop calls. [`channel`]: queues.
//! - [`net`]: sockets and pipes. [`io`]: lines, frames and copies. [`signal`]: signals as futures.
//! - [`selectors`]: the selectors, usable without async. [`driver`]: extension points for authors of I/O types.
#![forbid(unsafe_code)]

/// A sequence of values that are produced asynchronously.
///
/// [`net::Incoming`], [`io::Lines`], [`JoinSet`] and others implement it. The crate futures-util has combinators for
/// streams.
pub use futures_core::Stream;
pub use polyloop_executor::channel;
pub use polyloop_executor::{
    AbortOnDrop, Builder, CancellationToken, Elapsed, Handle, JoinError, JoinHandle, JoinSet,
    Runtime, TaskGroup, gather, join, race, run, sleep, spawn, spawn_blocking, timeout, try_join,
    yield_now,
};
pub use polyloop_net::{io, signal};
pub use polyloop_reactor::Backend;

/// Thread pools for blocking work.
pub mod blocking {
    pub use polyloop_executor::{
        BlockingPool, BlockingPoolBuilder, PoolMap, PoolMapIter, RunningJob, UnfinishedJobs,
        spawn_blocking,
    };
}

/// Callbacks: plain functions that the loop calls soon or at a given time, like asyncio's `call_soon`.
pub mod callback {
    pub use polyloop_executor::{CallHandle, call_at, call_later, call_soon};
}

/// Combinators, which wait for several futures at once.
pub mod future {
    pub use polyloop_executor::{
        Either, Failure, Until, Waited, as_completed, gather, join, or, race, race_all, try_gather,
        try_join, wait, wait_while,
    };
}

/// Async sockets and pipes.
pub mod net {
    pub use polyloop_net::{
        AcceptErrorKind, AsyncFd, Connection, Credentials, Direction, Incoming, Keepalive,
        Listener, OwnedReadHalf, OwnedWriteHalf, PipeReader, PipeWriter, ReadHalf, Received,
        ReceivedFds, ReuniteError, Server, ServerEvent, ServerReport, Session, ShutdownHandle,
        TcpListener, TcpSocket, TcpStream, ToAddrs, UdpSocket, UnixDatagram, UnixListener,
        UnixStream, WriteHalf, lookup_host, pipe,
    };
    #[cfg(not(target_vendor = "apple"))]
    pub use polyloop_net::{UnixSeqpacket, UnixSeqpacketListener};
}

/// Runtimes: building, running, embedding and observing them.
pub mod runtime {
    pub use polyloop_executor::{
        Builder, Handle, Metrics, NextTurn, Report, Runtime, metrics, run,
    };
}

/// Structured concurrency: groups of tasks that end before their scope does, and cancellation.
pub mod scope {
    pub use polyloop_executor::{
        CancelScope, CancellationToken, Cancelled, Failure, GroupError, TaskGroup,
        current_effective_deadline, shielded,
    };
}

/// Readiness of file descriptors, without async: select, poll, epoll and kqueue behind one trait,
/// modelled on Python's `selectors`.
pub mod selectors {
    pub use polyloop_reactor::{
        Backend, Event, Events, Interest, Key, KeyedSelector, Keys, LostDescriptor, Mode, Notifier,
        PollableFd, Readiness, Ready, Registration, Selector, SignalFd, SystemCalls, Token,
        UnknownBackend, WaitEnd, default_selector,
    };
}

/// Tasks: spawning, joining, and inspecting what each of them waits for.
pub mod task {
    pub use polyloop_executor::task::*;
    pub use polyloop_executor::{
        AbortOnDrop, JoinError, JoinHandle, JoinSet, YieldNow, spawn, yield_now,
    };
}

/// Sleeps, timeouts and intervals.
pub mod time {
    pub use polyloop_executor::now;
    pub use polyloop_executor::time::*;
    pub use polyloop_reactor::restore_timer_slack;
}

/// Extension points for authors of I/O types and drivers.
///
/// Programs that only use polyloop do not need this module. Its items follow the runtime's internals: unlike
/// the rest of this crate, they may change in a minor release, and the changelog says so.
pub mod driver {
    pub use polyloop_executor::{
        Tried, current_loop, forget_waiter, note_io, poll_proceed, poll_source, release_source,
        with_reactor,
    };
    pub use polyloop_reactor::{
        Collected, Direction, ForkGuard, Outlook, PerProcess, Reactor, Released, WaiterKey, WakeFd,
        Watched, monotonic_ns, os_error, socket,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/servers.md")]
struct Servers;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
