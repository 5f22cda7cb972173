//! Who runs next, and when?
//!
//! A single-threaded executor with asyncio's two queues: *ready*, first in first out, and
//! *scheduled*, a heap of deadlines. One turn of the loop ([`Runtime::block_on`] runs turns until
//! its future is done):
//!
//! 1. Letters from other threads are read.
//! 2. If nothing is ready, the timeout is chosen: the earliest deadline minus now, or none.
//! 3. The reactor waits that long, or only looks, and whoever waits for what happened is woken.
//! 4. Timers that are due are woken.
//! 5. Tasks that are ready are polled, first in first out, until none is left or it is time to
//!    look at the world again.
//!
//! While tasks stay ready that is after a bounded number of polls, so a task that yields costs
//! no system call.
//!
//! Everything that a user or a waker holds is a number: tasks, timers and sources live in slabs
//! of their loop. Wakers are not allocated or counted, and handles are `Send`.
#![deny(unsafe_code)]

mod deep_drop;
mod estate;
mod event_loop;

mod runtime;

mod builder;

mod table;
pub mod task;

mod tasks;

mod survey;

mod notes;

mod shuffle;

mod stage;

#[allow(unsafe_code)]
mod waker;

mod join;

mod join_error;

mod abort_on_drop;

mod timer_heap;

mod timer_slots;

mod segments;

mod clock;

pub mod time;

mod no_runtime;

mod yield_now;

mod many;

mod callback;

mod budget;

mod debug;
mod lost_panic;

mod dump_signal;

mod next_turn;

#[cfg(all(test, not(loom)))]
mod limit_tests;

mod steps;

mod spin;

mod mailbox;

mod trim;
mod wake_list;

mod residents;

mod sync;

mod handle;

mod packet;

pub mod channel;

mod blocking;

mod source;

mod metrics;

pub use abort_on_drop::AbortOnDrop;
pub use blocking::{
    BlockingPool, BlockingPoolBuilder, PoolMap, PoolMapIter, RunningJob, UnfinishedJobs,
    spawn_blocking,
};
pub use budget::poll_proceed;
pub use builder::Builder;
pub use callback::{CallHandle, call_at, call_later, call_soon};
pub use clock::now;
pub use debug::Report;
pub use handle::Handle;
#[doc(hidden)]
pub use handle::poll_caught;
pub use join::JoinHandle;
pub use join_error::JoinError;
pub use many::{
    AsCompleted, CancelScope, CancellationToken, Cancelled, Either, Failure, FairRace,
    FirstFailure, GroupError, JoinSet, TaskGroup, Until, Waited, as_completed, cancel_scope,
    current_effective_deadline, gather, race, scope, shield, shielded, timeout_scope, timeout_with,
    try_gather, wait, wait_until,
};
#[doc(hidden)]
pub use many::{Branch, Turns};
pub use metrics::{Metrics, metrics};
pub use next_turn::NextTurn;
pub use runtime::{Runtime, run, spawn};
pub use source::{
    Tried, current_loop, forget_waiter, note_io, poll_source, release_source, with_reactor,
};
pub use time::{
    Elapsed, Interval, MissedTicks, Sleep, TimeHold, hold_time, interval, interval_at, sleep,
    sleep_until, timeout, timeout_at,
};
pub use yield_now::{YieldNow, yield_now};
