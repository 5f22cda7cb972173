//! Waiting for all of several futures.

use std::future::poll_fn;
use std::panic::Location;

use super::JoinSet;
use crate::Failure;
use crate::JoinError;
use crate::join::join_error::given;
use crate::raw::current::current;
use crate::runtime::no_runtime::no_runtime;
use crate::scope::scope_node::{current_scope, enter};

/// Runs all futures concurrently as tasks, and returns their outputs in the order of the futures.
///
/// If a future panics, its output is a [`JoinError`](crate::JoinError), and the others continue. For a few futures that
/// borrow or have different types, use [`join!`](crate::join).
///
/// # Panics
/// Panics outside a runtime.
///
/// # Cancel safety
/// Dropping the returned future aborts the unfinished tasks, and drops the outputs of the finished ones.
///
/// # References
/// Python's `asyncio.gather(return_exceptions=True)`.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let squares = polyloop::gather((1..4).map(|i| async move { i * i })).await;
/// let squares: Vec<i32> = squares.into_iter().map(Result::unwrap).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gather<F>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Vec<Result<F::Output, JoinError>>>
where
    F: Future + 'static,
{
    let called_at = Location::caller();
    async move {
        let mut set = spawn_all(futures, called_at);
        let mut outputs: Vec<_> = (0..set.len()).map(|_| None).collect();
        while let Some((number, output)) = poll_fn(|cx| set.poll_arrival(cx)).await {
            outputs[number] = Some(output);
        }
        outputs.into_iter().map(|output| given(output.expect(ALL_ENDED))).collect()
    }
}

/// Why there is an output for every number.
const ALL_ENDED: &str = "every task of the set has ended";

/// Runs all futures concurrently as tasks, and returns their values in the order of the futures, or the first failure.
///
/// # Errors
/// Returns the first failure: the error that a future returned, or its panic. The other futures have been dropped by
/// then. A [`TaskGroup`](crate::TaskGroup) returns all failures.
///
/// # Panics
/// Panics outside a runtime.
///
/// # Cancel safety
/// Dropping the returned future aborts the unfinished tasks, and drops the values of the finished ones.
///
/// # References
/// Python's `asyncio.gather`, which however leaves the other tasks running after a failure.
///
/// # Examples
/// ```
/// use polyloop::future::try_gather;
/// use polyloop::scope::Failure;
///
/// # polyloop::run(async {
/// let numbers = try_gather(["1", "2", "x"].map(|text| async { text.parse::<i32>() })).await;
/// assert!(matches!(numbers, Err(Failure::Error(_))));
/// # }).unwrap();
/// ```
#[track_caller]
pub fn try_gather<F, T, E>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Result<Vec<T>, Failure<E>>>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: 'static,
{
    let called_at = Location::caller();
    async move {
        let mut set = spawn_all(futures, called_at);
        let mut values: Vec<_> = (0..set.len()).map(|_| None).collect();
        while let Some((number, output)) = set.join_next_with_number().await {
            match output {
                Ok(Ok(value)) => values[number] = Some(value),
                // Dropping the set aborts the others.
                Ok(Err(error)) => return Err(Failure::Error(error)),
                Err(error) => return Err(Failure::Panicked(error)),
            }
        }
        Ok(values.into_iter().map(|value| value.expect(ALL_ENDED)).collect())
    }
}

/// Spawns a task for each future in the caller's scope, which the tasks do not outlive.
fn spawn_all<F>(
    futures: impl IntoIterator<Item = F>,
    called_at: &'static Location<'static>,
) -> JoinSet<F::Output>
where
    F: Future + 'static,
{
    if current(|_| ()).is_none() {
        // The caller is the poller here, so the message has the location of the call.
        no_runtime(&format!("what was gathered at {called_at} was polled"));
    }
    let mut set = JoinSet::new();
    let scope = current_scope();
    for future in futures {
        if let Some(scope) = scope.clone() {
            set.spawn_polled(called_at, future, move |future, cx| {
                enter(Some(scope.clone()), || future.poll(cx))
            });
        } else {
            set.spawn_polled(called_at, future, |future, cx| future.poll(cx));
        }
    }
    set
}
