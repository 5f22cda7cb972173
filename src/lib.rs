//! An async runtime with one event loop per thread, over select, poll, epoll or kqueue.
//!
//! # A first program
//! [`run`] makes a loop, runs a future on it and returns the future's output. [`spawn`] starts a task
//! on the loop that is running; awaiting the task's [`JoinHandle`] gives its output, or the reason why there
//! is none.
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
//! All tasks of a loop run on its thread, one at a time. They need not be `Send`, and share state through
//! `Rc`, `Cell` and `RefCell`. A task runs until it awaits something that is not ready; a task that never
//! does keeps the others from running.
//!
//! # Sockets
//! [`net`] has TCP, UDP, Unix-domain sockets and pipes. Their methods take `&self`, so one task may read from a
//! stream while another one writes to it.
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
//! [`net::Server`] accepts connections and starts a task for each. It keeps serving when descriptors run out, when
//! clients reset connections and when handlers panic.
//!
//! # Time and cancellation
//! [`sleep`], [`timeout`] and [`interval`] wait for a time. Dropping a future cancels it; each async function says
//! under *Cancel safety* what is lost then. [`JoinHandle::abort`] cancels a task, [`CancellationToken`] asks
//! tasks to end, and [`scope`] starts tasks that end before the scope does.
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
//! # Several at once
//! [`join!`] and [`try_join!`] wait for several futures, [`gather`] for any number of the same type, [`race`] for the
//! first of two. [`JoinSet`] holds tasks and returns their outputs as they finish.
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
//! [`spawn_blocking`] runs a function that blocks on a thread of a pool. A [`Handle`] spawns tasks and calls
//! functions on a loop from any thread, and [`channel`] carries messages between tasks and threads. A
//! program that needs several cores runs one loop on each of several threads.
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
//! Every backend that the system has is compiled in. [`Builder::backend`] chooses one for a loop, the environment
//! variable `POLYLOOP_BACKEND` for a program; the default is epoll on Linux and kqueue on macOS and the BSDs.
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
//! [`task::dump`] lists the tasks of a loop, where each was spawned and what each waits for. With
//! [`Builder::debug`], or `POLYLOOP_DEBUG=1`, a loop whose tasks can never be woken again fails with that list,
//! and slow polls and panics that nothing joined are reported.
//!
//! # Inside another event loop
//! [`Runtime::turn`] runs one turn for a host with a loop of its own, and returns when the next one is due;
//! [`Runtime::pollable_fd`] is a descriptor for the host to watch.
//!
//! # More
//! - [`call_soon`], [`call_later`], [`call_at`]: plain functions for the loop to call.
//! - [`wait`], [`as_completed`], [`FairRace`]: further ways to wait for several things.
//! - [`timeout_with`], [`cancel_scope`], [`shielded`]: scopes that end at a deadline or on request.
//! - [`signal`]: signals as futures. [`BlockingPool`]: a thread pool of your own.
//! - [`reactor`]: the selectors, usable without async. [`executor`]: what authors of I/O types need.
#![forbid(unsafe_code)]

/// What yields one value after another: [`net::Incoming`], [`net::Lines`], [`AsCompleted`] and the like
/// implement it. Combinators for it are in the crate futures-util.
pub use futures_core::Stream;
pub use polyloop_executor as executor;
pub use polyloop_net as net;
pub use polyloop_reactor as reactor;

pub use polyloop_executor::{
    AbortOnDrop, AsCompleted, BlockingPool, BlockingPoolBuilder, Builder, CallHandle, CancelScope,
    CancellationToken, Cancelled, Either, Elapsed, Failure, FairRace, FirstFailure, GroupError,
    Handle, Interval, JoinError, JoinHandle, JoinSet, Metrics, MissedTicks, NextTurn, PoolMap,
    PoolMapIter, Report, RunningJob, Runtime, Sleep, TaskGroup, TimeHold, UnfinishedJobs, Until,
    Waited, YieldNow, as_completed, call_at, call_later, call_soon, cancel_scope,
    current_effective_deadline, gather, hold_time, interval, interval_at, join, metrics, now, race,
    run, scope, shield, shielded, sleep, sleep_until, spawn, spawn_blocking, time, timeout,
    timeout_at, timeout_scope, timeout_with, try_gather, try_join, wait, wait_until, yield_now,
};
pub use polyloop_executor::{channel, task};
pub use polyloop_net::signal;
pub use polyloop_reactor::{Backend, restore_timer_slack};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/servers.md")]
struct Servers;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
