//! Functions over the loop that runs on this thread.
//!
//! They are above the mechanisms that they call: no mechanism uses the current loop.

use std::cell::Cell;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::catch::{Payload, catch_to_end};
use crate::event_loop::EventLoop;
use crate::event_loop::budget::{RANDOM_SEED, Start, next_random};
use crate::event_loop::local_loops::if_local;
use crate::event_loop::mailbox::{self, Address, Command};
use crate::inspect::debug::{Report, print};
use crate::inspect::lost_panic::Origin;
use crate::inspect::notes::Notes;
use crate::join::join_error::{JoinError, given};
use crate::raw::current::current;
use crate::runtime::metrics::Metrics;
use crate::time::clock::{Clock, ClockId};

/// Returns the current time by the clock of the running loop, which may be virtual.
///
/// Outside a runtime, returns [`Instant::now`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::{Builder, sleep};
/// use polyloop::time::now;
///
/// let runtime = Builder::new().virtual_time(true).build()?;
/// runtime.block_on(async {
///     let start = now();
///     sleep(Duration::from_secs(3_600)).await;
///     assert_eq!(now() - start, Duration::from_secs(3_600));
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn now() -> Instant {
    current(|event_loop| event_loop.clock().now()).unwrap_or_else(Instant::now)
}

/// Returns [`now`] in nanoseconds, and the clock's id.
#[inline]
pub(crate) fn read_clock() -> (u64, ClockId) {
    let read = |clock: &Clock| (clock.now_ns(), clock.id());
    current(|event_loop| read(event_loop.clock())).unwrap_or_else(|| read(&Clock::system()))
}

/// Returns the id of the current clock.
#[inline]
pub(crate) fn current_clock() -> ClockId {
    current(|event_loop| event_loop.clock().id()).unwrap_or(ClockId::SYSTEM)
}

/// Returns the counts of the running loop, or zeros outside a runtime.
pub fn metrics() -> Metrics {
    current(EventLoop::metrics).unwrap_or_default()
}

/// Takes one operation from the running task's budget, in leaf futures.
///
/// Call it before an operation that might be ready at once. When the budget is spent, the task is woken and `Pending` is
/// returned, so that it continues after the other ready tasks. Outside a loop there is no budget.
///
/// # Examples
/// ```
/// use std::task::{Context, Poll, ready};
/// use polyloop::driver::poll_proceed;
///
/// fn poll_pop<T>(queue: &mut Vec<T>, cx: &mut Context<'_>) -> Poll<Option<T>> {
///     ready!(poll_proceed(cx));
///     Poll::Ready(queue.pop())
/// }
/// # assert!(poll_pop(&mut vec![1], &mut Context::from_waker(std::task::Waker::noop())).is_ready());
/// ```
#[inline]
pub fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    if current(|event_loop| event_loop.proceed()) == Some(false) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

/// Reports whether the running task may complete another operation in this poll.
///
/// Outside a loop there is no budget.
#[inline]
pub(crate) fn has_budget() -> bool {
    current(|event_loop| event_loop.has_budget()) != Some(false)
}

/// Returns the state of the budget for a combinator.
#[inline]
pub(crate) fn start() -> Start {
    current(|event_loop| event_loop.start()).unwrap_or(Start::Plain)
}

/// Reports whether there is budget, and no branch was refused.
#[inline]
pub(crate) fn is_plain() -> bool {
    current(|event_loop| event_loop.is_plain()) != Some(false)
}

/// Takes one operation from the budget, for a result that is already available.
#[inline]
pub(crate) fn take_one() {
    current(|event_loop| event_loop.proceed());
}

/// Returns a random number below `limit`, from the generator of the running loop or, outside one, of the thread.
pub(crate) fn draw_below(limit: usize) -> usize {
    thread_local! {
        static RANDOM: Cell<u32> = const { Cell::new(RANDOM_SEED) };
    }
    let random = current(EventLoop::draw);
    let random = random.or_else(|| RANDOM.try_with(next_random).ok()).unwrap_or_default();
    ((u64::from(random) * limit as u64) >> 32) as usize
}

/// While it exists, polled combinators start with a random branch.
#[derive(Debug)]
pub(crate) struct MakingUp {
    /// The poll for which this was set before.
    former: Option<u64>,
}

impl MakingUp {
    pub(crate) fn begin() -> MakingUp {
        MakingUp { former: current(EventLoop::begin_mixing) }
    }
}

impl Drop for MakingUp {
    fn drop(&mut self) {
        if let Some(former) = self.former {
            current(|event_loop| event_loop.end_mixing(former));
        }
    }
}

/// Sets a note for the running task, which is about to be pending.
#[inline]
pub(crate) fn note(note: Notes) {
    current(|event_loop| event_loop.note(note));
}

/// Creates the error of a future of the running task that has panicked.
///
/// Pass it through [`given`](crate::join::join_error::given) when it is returned to a caller.
#[cold]
pub(crate) fn panicked(payload: Payload) -> JoinError {
    JoinError::panicked(payload, current(EventLoop::origin_of_task).flatten())
}

/// Polls `future`, turns its panic into an error, and drops it when it has ended.
///
/// For callers that create the future where they poll it: a future that is passed to an `async fn` is stored twice, as
/// the argument and as the polled future.
///
/// # Panics
/// If the future has ended.
pub fn poll_caught<F: Future>(
    future: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, JoinError>> {
    poll_outcome(future, |future| future.poll(cx)).map(given)
}

/// Polls like [`poll_caught`] with `poll`, for an outcome that is not yet returned to a caller.
#[inline]
pub(crate) fn poll_outcome<F, T>(
    future: Pin<&mut Option<F>>,
    poll: impl FnOnce(Pin<&mut F>) -> Poll<T>,
) -> Poll<Result<T, JoinError>> {
    catch_to_end(future, poll).map(|caught| caught.map_err(panicked))
}

/// Describes a job that the running task spawns as the origin of a panic, in debug mode.
#[inline]
pub(crate) fn origin_of_job(
    name: Option<&str>,
    spawned_at: &'static Location<'static>,
) -> Option<Box<Origin>> {
    current(|event_loop| event_loop.origin_of_job(name, spawned_at)).flatten()
}

/// Reports a lost panic to the loop at an address, from any thread.
pub(crate) fn report_lost(address: Address, report: Report) {
    let mut stray = Stray(Some(report));
    if_local(address.number(), |event_loop| {
        if event_loop.address() == address
            && let Some(report) = stray.0.take()
        {
            event_loop.report_lost(report);
        }
    });
    if stray.0.is_some() {
        let message = move || {
            if let Some(report) = stray.0.take() {
                current(|event_loop| event_loop.report_lost(report));
            }
        };
        mailbox::send_to(address, Command::Run(Box::new(message)));
    }
}

/// A report that is sent to its loop. If the loop ends first, with its reporter, the report is printed.
struct Stray(Option<Report>);

impl Drop for Stray {
    fn drop(&mut self) {
        if let Some(report) = &self.0 {
            print(report);
        }
    }
}
