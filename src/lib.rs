//! An async runtime over select, poll, epoll and kqueue, small enough to read in an afternoon.
//!
//! One loop for each thread runs tasks, timers and sockets. Which mechanism of the operating
//! system it waits with is a value, chosen when the program runs.
//!
//! # Examples
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
//! # Where things are
//! - [`run`], [`Runtime`], [`Builder`]: make a loop and run it.
//! - [`spawn`], [`JoinHandle`], [`Handle`], [`spawn_blocking`]: tasks, from here and elsewhere.
//! - [`gather`], [`wait`], [`as_completed`], [`race`], [`JoinSet`], [`join!`]: many at once. [`scope`]:
//!   children that end before their parent does. [`CancellationToken`]: asking them to.
//!   [`timeout_with`], [`cancel_scope`], [`shielded`]: scopes that end at a deadline, or when told to.
//! - [`task`]: which tasks there are, and what each waits for. [`Builder::debug`]: a loop that tells
//!   what goes wrong.
//! - [`BlockingPool`]: threads for work that blocks, with or without a loop.
//! - [`Runtime::turn`]: a loop inside somebody else's.
//! - [`call_soon`], [`call_later`], [`call_at`]: plain functions for the loop to call.
//! - [`channel`]: from task to task, between threads or within one.
//! - [`sleep`], [`timeout`], [`interval`] and the rest of [`time`].
//! - [`net`]: sockets that await. [`signal`]: signals as futures.
//! - [`reactor`]: the selectors, usable by themselves. [`executor`]: everything above, and the
//!   seams for those who write I/O types.
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
