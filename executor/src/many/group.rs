//! Structure: children end before their group does.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use super::JoinSet;
use crate::JoinError;
use crate::waker::clone_of;

/// Runs `body`, which may spawn children into the group it is given, and returns when it and all
/// of them have ended.
///
/// The first failure, of `body` or of a child, ends the rest: their futures are dropped. All
/// failures are kept. If the future of the scope itself is dropped, by a timeout or a race, its
/// children are dropped with it: none is left running behind.
///
/// # Errors
/// Every failure: the errors that were returned and the panics.
///
/// # Panics
/// Outside a loop. If `body` does; the children have then been dropped.
///
/// # Cancel safety
/// `body` and the children are dropped.
///
/// # References
/// Python's `asyncio.TaskGroup`, trio's nurseries.
///
/// # Examples
/// ```
/// use polyloop_executor::{TaskGroup, scope};
///
/// # polyloop_executor::run(async {
/// let sum = scope(async |group: &TaskGroup<std::num::ParseIntError>| {
///     let total = std::rc::Rc::new(std::cell::Cell::new(0));
///     for text in ["1", "2", "3"] {
///         let total = total.clone();
///         group.spawn(async move {
///             total.set(total.get() + text.parse::<i32>()?);
///             Ok(())
///         });
///     }
///     Ok(total)
/// });
/// assert_eq!(sum.await.unwrap().get(), 6);
/// # }).unwrap();
/// ```
pub async fn scope<T, E: 'static>(
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
) -> Result<T, GroupError<E>> {
    let group = TaskGroup { children: RefCell::new(JoinSet::new()), waker: Cell::new(None) };
    let mut failures = Vec::new();
    let value = {
        let mut body = pin!(body(&group));
        let mut value = None;
        poll_fn(|cx| {
            if value.is_none()
                && let Poll::Ready(result) = body.as_mut().poll(cx)
            {
                value = Some(result);
            }
            group.waker.set(Some(clone_of(cx.waker())));
            if let Some(failure) = group.poll_children(cx) {
                failures.push(failure);
                return Poll::Ready(());
            }
            let is_over = group.children.borrow().is_empty();
            match &value {
                Some(Err(_)) => Poll::Ready(()),
                Some(Ok(_)) if is_over => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        value
        // Here the body is dropped, if it has not ended.
    };
    let value = match value {
        Some(Ok(value)) => Some(value),
        Some(Err(error)) => {
            failures.push(Failure::Error(error));
            None
        }
        None => None,
    };
    let mut children = group.children.into_inner();
    children.abort_all();
    while let Some((_, outcome)) = children.join_next().await {
        failures.extend(Failure::of(outcome));
    }
    match value {
        Some(value) if failures.is_empty() => Ok(value),
        _ => Err(GroupError { failures }),
    }
}

/// Takes in the children of a [`scope`].
pub struct TaskGroup<E> {
    children: RefCell<JoinSet<Result<(), E>>>,
    /// The scope, which has to watch a child that is new.
    waker: Cell<Option<Waker>>,
}

impl<E: 'static> TaskGroup<E> {
    /// Starts a child.
    ///
    /// Its value goes where it puts it: into a cell or a channel that it shares with the body.
    ///
    /// # Panics
    /// Outside a loop.
    #[track_caller]
    pub fn spawn<F>(&self, child: F)
    where
        F: Future<Output = Result<(), E>> + 'static,
    {
        self.children.borrow_mut().spawn(child);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Returns the number of children that have not ended.
    pub fn len(&self) -> usize {
        self.children.borrow().len()
    }

    /// Reports whether there is no child.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the children that have ended; returns the first failure among them.
    fn poll_children(&self, cx: &mut std::task::Context<'_>) -> Option<Failure<E>> {
        loop {
            let polled = self.children.borrow_mut().poll_join_next(cx);
            match polled {
                Poll::Ready(Some((_, outcome))) => {
                    if let Some(failure) = Failure::of(outcome) {
                        return Some(failure);
                    }
                }
                Poll::Ready(None) | Poll::Pending => return None,
            }
        }
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroup").field("children", &self.children).finish_non_exhaustive()
    }
}

/// Says which way one member of a group failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// It returned an error.
    Error(E),
    /// It panicked.
    Panicked(JoinError),
}

impl<E> Failure<E> {
    fn of(outcome: Result<Result<(), E>, JoinError>) -> Option<Failure<E>> {
        match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Failure::Error(error)),
            // Cancelled is what the group itself did to it.
            Err(error) if error.is_cancelled() => None,
            Err(error) => Some(Failure::Panicked(error)),
        }
    }
}

/// Holds every failure in a group, in the order in which they happened. There is at least one.
#[derive(Debug)]
pub struct GroupError<E> {
    failures: Vec<Failure<E>>,
}

impl<E> GroupError<E> {
    /// Returns the failures.
    pub fn into_failures(self) -> Vec<Failure<E>> {
        self.failures
    }

    /// Lends the failures.
    pub fn failures(&self) -> &[Failure<E>] {
        &self.failures
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for failure in &self.failures {
            match failure {
                Failure::Error(error) => write!(f, "{separator}{error}")?,
                Failure::Panicked(error) => write!(f, "{separator}{error}")?,
            }
            separator = "; ";
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}
