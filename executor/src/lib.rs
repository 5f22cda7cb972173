//! A single-threaded executor with asyncio's two queues: *ready*, first in, first out, and *scheduled*, a heap of
//! deadlines.
//!
//! [`Runtime::block_on`] runs turns of the loop until its future has completed. One turn:
//!
//! 1. Reads messages from other threads.
//! 2. If no task is ready, computes the timeout: the earliest deadline minus now, or none.
//! 3. The reactor waits that long, or polls for events without waiting, and wakes the tasks that wait for them.
//! 4. Wakes the tasks of due timers.
//! 5. Polls ready tasks in order until none is left or it is time to check for events again.
//!
//! While tasks stay ready, that is after a bounded number of polls, so a task that yields costs no system call.
//!
//! Handles and wakers hold ids: tasks, timers and sources are in tables of their loop. Wakers are not allocated or
//! counted, and handles are `Send`.
#![deny(unsafe_code)]

mod runtime;

mod event_loop;

mod tasks;

#[allow(unsafe_code)]
mod raw;

mod join;

pub mod time;

mod combine;

mod scope;

pub mod channel;

mod blocking;

pub mod task;

mod inspect;

mod driver;

mod running;

mod catch;

mod steps;

mod sync;

#[doc(hidden)]
pub use blocking::AbandonOnDrop;
pub use blocking::{
    BlockingPool, BlockingPoolBuilder, PoolMap, PoolMapIter, RunningJob, UnfinishedJobs,
    spawn_blocking,
};
#[doc(hidden)]
pub use combine::{Branch, Turns};
pub use combine::{
    Either, JoinSet, Until, Waited, as_completed, gather, or, race, race_all, try_gather, wait,
    wait_while,
};
pub use driver::{
    Tried, current_loop, forget_waiter, note_io, poll_source, release_source, with_reactor,
};
pub use inspect::debug::Report;
pub use join::abort_on_drop::AbortOnDrop;
pub use join::join_error::JoinError;
pub use join::join_handle::JoinHandle;
#[doc(hidden)]
pub use running::poll_caught;
pub use running::{metrics, now, poll_proceed};
pub use runtime::Runtime;
pub use runtime::builder::Builder;
pub use runtime::callback::{CallHandle, call_at, call_later, call_soon};
pub use runtime::handle::Handle;
pub use runtime::metrics::Metrics;
pub use runtime::next_turn::NextTurn;
pub use runtime::run::{run, spawn};
pub use scope::{
    CancelScope, CancellationToken, Cancelled, Failure, GroupError, TaskGroup,
    current_effective_deadline, shielded,
};
pub use task::yield_now::{YieldNow, yield_now};
pub use time::{
    Elapsed, Interval, MissedTickBehavior, Sleep, TimeHold, hold_time, interval, interval_at,
    sleep, sleep_until, timeout, timeout_at,
};
