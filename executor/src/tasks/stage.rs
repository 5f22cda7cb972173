//! A task: a box with a future, and later with the future's output.
//!
//! ```text
//!                    poll: Pending
//!                      ┌──────┐
//!            1         │      │        2               3
//!   spawn ───────▶ [ Future ]◀┘ ──────────▶ [ Output ] ─────▶ [ Empty ]
//!                      ▲                                          │
//!                      └──────────────────────────────────────────┘
//!                                          4
//! ```
//! 1. [`new_task`] boxes the future: the one allocation of a spawn.
//! 2. [`poll`](AnyTask::poll) returned ready or panicked, or [`cancel`](AnyTask::cancel) dropped
//!    the future: the outcome takes its place.
//! 3. The join handle took the output, or [`clear`](AnyTask::clear) dropped it.
//! 4. [`refill`](AnyTask::refill) uses the emptied box for another future of the same type.

use std::any::Any;
use std::cell::Cell;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::catch::{catch_poll, quietly};
use crate::join::join_error::JoinError;
use crate::raw;
use crate::raw::project::project;

/// A type-erased task.
pub(crate) type TaskBox = Pin<Box<dyn AnyTask>>;

/// Boxes a future as a task.
pub(crate) fn new_task<F>(future: F) -> TaskBox
where
    F: Future + 'static,
{
    Box::pin(Stage::Future(future))
}

/// The contents of a task's box.
///
/// The output is in a `Cell`, so that it can be taken out of the pinned box.
type Stage<F> = raw::project::Stage<F, Cell<Option<Result<<F as Future>::Output, JoinError>>>>;

/// The loop's operations on a task of any type. They catch all panics.
pub(crate) trait AnyTask {
    /// Polls the future; when it completes or panics, its outcome replaces it.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Drops the future and stores the error that it was cancelled.
    fn cancel(self: Pin<&mut Self>);

    /// Drops the contents of the box.
    fn clear(self: Pin<&mut Self>);

    /// Moves the outcome to `into`, an `Option<Result<T, JoinError>>` with the task's type.
    ///
    /// Runs no foreign code.
    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any);

    /// Calls `f`, which is foreign code, with the outcome, a `Result<T, JoinError>`.
    fn show_output(self: Pin<&mut Self>, f: &mut dyn FnMut(&dyn Any));

    /// Reports whether the box holds an outcome other than that the task was cancelled.
    fn has_outcome(self: Pin<&mut Self>) -> bool;

    /// Returns the error that the task has ended with, if there is one.
    fn with_error(self: Pin<&mut Self>, f: &mut dyn FnMut(&mut JoinError));

    /// Moves a future out of `from`, an `Option<F>`, if its type is this box's.
    ///
    /// Runs no foreign code. The box must be empty.
    fn refill(self: Pin<&mut Self>, from: &mut dyn Any) -> bool;
}

impl<F> AnyTask for Stage<F>
where
    F: Future + 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = catch_poll(|| {
            let future = project(self.as_mut()).expect("a finished task is not polled");
            let output = ready!(future.poll(cx));
            self.as_mut().set(Stage::Output(Cell::new(Some(Ok(output)))));
            Poll::Ready(())
        });
        polled.unwrap_or_else(|payload| {
            // In debug mode, the loop adds the origin.
            set_outcome(self, JoinError::panicked(payload, None));
            Poll::Ready(())
        })
    }

    fn cancel(self: Pin<&mut Self>) {
        set_outcome(self, JoinError::cancelled());
    }

    fn clear(mut self: Pin<&mut Self>) {
        quietly(|| self.set(Stage::Empty));
    }

    fn take_output(self: Pin<&mut Self>, into: &mut dyn Any) {
        let into: &mut Option<Result<F::Output, JoinError>> =
            into.downcast_mut().expect("a join handle has the type of its task");
        if let Stage::Output(output) = self.as_ref().get_ref() {
            // Forgotten, because the compiler cannot know that there is nothing to drop.
            mem::forget(mem::replace(into, output.take()));
        }
    }

    fn show_output(self: Pin<&mut Self>, f: &mut dyn FnMut(&dyn Any)) {
        let Stage::Output(output) = self.as_ref().get_ref() else { return };
        let Some(outcome) = output.take() else { return };
        quietly(|| f(&outcome));
        output.set(Some(outcome));
    }

    fn has_outcome(self: Pin<&mut Self>) -> bool {
        let Stage::Output(output) = self.as_ref().get_ref() else { return false };
        let outcome = output.take();
        let is_one = match &outcome {
            Some(Ok(_)) => true,
            Some(Err(error)) => !error.is_cancelled(),
            None => false,
        };
        output.set(outcome);
        is_one
    }

    fn with_error(self: Pin<&mut Self>, f: &mut dyn FnMut(&mut JoinError)) {
        let Stage::Output(output) = self.as_ref().get_ref() else { return };
        let mut outcome = output.take();
        if let Some(Err(error)) = &mut outcome {
            f(error);
        }
        output.set(outcome);
    }

    fn refill(mut self: Pin<&mut Self>, from: &mut dyn Any) -> bool {
        let Some(future) = from.downcast_mut::<Option<F>>() else { return false };
        debug_assert!(
            match self.as_ref().get_ref() {
                Stage::Future(_) => false,
                Stage::Output(output) => {
                    let held = output.take();
                    let empty = held.is_none();
                    output.set(held);
                    empty
                }
                Stage::Empty => true,
            },
            "only an emptied box is refilled"
        );
        if let Some(future) = future.take() {
            self.set(Stage::Future(future));
        }
        true
    }
}

/// Drops the contents of the box and stores `error` as the outcome.
fn set_outcome<F: Future>(mut stage: Pin<&mut Stage<F>>, error: JoinError) {
    let outcome = Stage::<F>::Output(Cell::new(Some(Err(error))));
    // `set` writes the outcome even if dropping the future panics.
    quietly(|| stage.set(outcome));
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::task::Waker;

    use super::*;

    fn poll(task: &mut TaskBox) -> Poll<()> {
        task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn output<T: 'static>(task: &mut TaskBox) -> Option<Result<T, JoinError>> {
        let mut output: Option<Result<T, JoinError>> = None;
        task.as_mut().take_output(&mut output);
        output
    }

    #[test]
    fn a_ready_future_leaves_its_output() {
        let mut task = new_task(ready(7));
        assert!(poll(&mut task).is_ready());
        assert_eq!(output::<i32>(&mut task).unwrap().unwrap(), 7);
        assert!(output::<i32>(&mut task).is_none());
    }

    #[test]
    fn a_panic_becomes_the_outcome() {
        let mut task = new_task(poll_fn(|_| -> Poll<()> { panic!("boom") }));
        assert!(poll(&mut task).is_ready());
        assert!(output::<()>(&mut task).unwrap().unwrap_err().is_panic());
    }

    #[test]
    fn a_panicking_destructor_does_not_lose_the_outcome() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("drop");
            }
        }
        let bomb = Bomb;
        let mut task = new_task(async move {
            let _bomb = bomb;
            pending::<()>().await;
        });
        assert!(poll(&mut task).is_pending());
        task.as_mut().cancel();
        assert!(output::<()>(&mut task).unwrap().unwrap_err().is_cancelled());
    }

    #[test]
    fn an_emptied_box_takes_only_its_own_type() {
        let mut task = new_task(ready(1_u8));
        assert!(poll(&mut task).is_ready());
        task.as_mut().clear();
        assert!(!task.as_mut().refill(&mut Some(ready(1_u16))));
        assert!(task.as_mut().refill(&mut Some(ready(2_u8))));
        assert!(poll(&mut task).is_ready());
        assert_eq!(output::<u8>(&mut task).unwrap().unwrap(), 2);
    }
}
