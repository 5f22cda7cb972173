//! What a group, or a gathering, reports when a member fails.

use std::error::Error;
use std::fmt;
use std::mem;

use super::Cancelled;
use super::scope_node::ScopeNode;
use crate::JoinError;

/// Describes how one member of a group, or one of several gathered futures, failed.
///
/// # Examples
/// ```
/// use polyloop::future::try_gather;
/// use polyloop::scope::Failure;
///
/// # polyloop::run(async {
/// let outcome = try_gather([async { Err::<(), _>("no") }]).await;
/// assert!(matches!(outcome, Err(Failure::Error("no"))));
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The member returned an error.
    Error(E),
    /// The member panicked.
    Panicked(JoinError),
    /// The member was cancelled: the deadline of the group elapsed, or its cancel scope was cancelled.
    ///
    /// A group reports this once, however many members were cancelled.
    Cancelled(Cancelled),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Error(error) => error.fmt(f),
            Failure::Panicked(error) => error.fmt(f),
            Failure::Cancelled(why) => why.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for Failure<E> {}

/// Holds all failures of a group, in the order in which they happened; there is at least one.
///
/// # Examples
/// ```
/// use polyloop::TaskGroup;
///
/// # polyloop::run(async {
/// let outcome = TaskGroup::<&str>::scope(async |group| {
///     group.spawn(async { Err("one") });
///     group.spawn(async { Err("two") });
///     Ok(())
/// });
/// assert_eq!(outcome.await.unwrap_err().to_string(), "one; two");
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct GroupError<E> {
    failures: Vec<Failure<E>>,
}

impl<E> GroupError<E> {
    /// Returns the failures.
    pub fn failures(&self) -> &[Failure<E>] {
        &self.failures
    }

    /// Returns the failures by value.
    pub fn into_failures(self) -> Vec<Failure<E>> {
        self.failures
    }

    /// Reports whether a member was cancelled because a deadline elapsed.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use std::time::Duration;
    /// use polyloop::TaskGroup;
    ///
    /// # polyloop::run(async {
    /// let late = TaskGroup::<()>::scope(async |group| {
    ///     group.cancel_scope().set_timeout(Duration::from_millis(1));
    ///     pending::<Result<(), ()>>().await
    /// });
    /// assert!(late.await.unwrap_err().is_elapsed());
    /// # }).unwrap();
    /// ```
    pub fn is_elapsed(&self) -> bool {
        let is_elapsed = |f: &Failure<E>| matches!(f, Failure::Cancelled(Cancelled::Elapsed(_)));
        self.failures.iter().any(is_elapsed)
    }
}

impl<E: fmt::Display> fmt::Display for GroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for failure in &self.failures {
            write!(f, "{separator}{failure}")?;
            separator = "; ";
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> Error for GroupError<E> {}

/// The failures of a group that is still running.
pub(super) struct Failures<E> {
    list: Vec<Failure<E>>,
    /// Whether the list contains the reason why the other members are cancelled.
    is_explained: bool,
}

impl<E> Failures<E> {
    /// Adds the failure of a member, and cancels the others.
    pub(super) fn add(&mut self, failure: Failure<E>, node: &ScopeNode) {
        self.list.push(failure);
        if node.cancelled().is_none() {
            node.cancel(Cancelled::Requested);
            self.is_explained = true;
        }
    }

    /// Adds the cancellation of a member, unless the list contains its reason.
    pub(super) fn add_cancelled(&mut self, why: Cancelled) {
        if !mem::replace(&mut self.is_explained, true) {
            self.list.push(Failure::Cancelled(why));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn is_explained(&self) -> bool {
        self.is_explained
    }

    /// Hands all failures to the caller.
    pub(super) fn into_error(mut self) -> GroupError<E> {
        for failure in &mut self.list {
            if let Failure::Panicked(error) = failure {
                error.note_given();
            }
        }
        GroupError { failures: self.list }
    }
}

impl<E> Default for Failures<E> {
    fn default() -> Failures<E> {
        Failures { list: Vec::new(), is_explained: false }
    }
}
