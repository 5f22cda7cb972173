//! Deadlines and cancellation that can be observed, moved and nested.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Cancelled;
use super::scope_node::{EndOnDrop, ScopeNode, current_scope};
use crate::time::{Sleep, sleep_until};
use crate::{Elapsed, now};

/// A scope whose body is dropped when the scope is cancelled, or when its deadline elapses.
///
/// A body gets a reference to its scope, through which it can move the deadline or cancel itself. Cloning the scope
/// gives other tasks of the thread a handle to it. Cancelling a scope that has ended has no effect.
///
/// Compared with [`timeout`](crate::timeout), a cancel scope knows the deadlines of the scopes around it
/// ([`current_effective_deadline`]), and waits for [`shielded`](crate::shielded) sections: the body is dropped when
/// all sections that have started in it have ended. Until then the rest of the body continues, because a part of a
/// future cannot be dropped. Groups within the scope cancel their other members at once, and scopes that are
/// entered meanwhile are cancelled from the start.
///
/// # References
/// trio's `CancelScope`, Python's `asyncio.timeout`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::scope::{CancelScope, Cancelled};
///
/// # polyloop::run(async {
/// // Each step that succeeds extends the timeout by another 20 ms.
/// let steps = CancelScope::new().timeout(Duration::from_millis(20)).run(async |scope| {
///     for _ in 0..3 {
///         sleep(Duration::from_millis(1)).await;
///         scope.set_timeout(Duration::from_millis(20));
///     }
///     sleep(Duration::from_secs(60)).await;
/// });
/// assert!(matches!(steps.await, Err(Cancelled::Elapsed(_))));
/// # }).unwrap();
/// ```
#[doc(alias = "move_on_after")]
#[doc(alias = "fail_after")]
#[doc(alias = "move_on_at")]
#[doc(alias = "fail_at")]
#[derive(Clone)]
pub struct CancelScope {
    pub(super) node: Rc<ScopeNode>,
}

impl CancelScope {
    /// Creates a scope without a deadline.
    ///
    /// # Examples
    /// ```
    /// use polyloop::spawn;
    /// use polyloop::scope::{CancelScope, Cancelled};
    ///
    /// # polyloop::run(async {
    /// let scope = CancelScope::new();
    /// let handle = scope.clone();
    /// let _detached = spawn(async move { handle.cancel() });
    /// let outcome = scope.run(async |_| std::future::pending::<()>().await);
    /// assert_eq!(outcome.await, Err(Cancelled::Requested));
    /// # }).unwrap();
    /// ```
    pub fn new() -> CancelScope {
        CancelScope { node: Rc::default() }
    }

    /// Sets the deadline to `duration` from now on.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::scope::CancelScope;
    ///
    /// # polyloop::run(async {
    /// let scope = CancelScope::new().timeout(Duration::from_secs(1));
    /// assert_eq!(scope.run(async |_| 7).await, Ok(7));
    /// # }).unwrap();
    /// ```
    pub fn timeout(self, duration: Duration) -> CancelScope {
        self.set_timeout(duration);
        self
    }

    /// Sets the deadline.
    ///
    /// # Examples
    /// ```
    /// use polyloop::scope::CancelScope;
    /// use polyloop::time::now;
    ///
    /// # polyloop::run(async {
    /// let scope = CancelScope::new().timeout_at(now() + std::time::Duration::from_millis(1));
    /// assert!(scope.run(async |_| std::future::pending::<()>().await).await.is_err());
    /// # }).unwrap();
    /// ```
    #[doc(alias = "deadline")]
    pub fn timeout_at(self, deadline: Instant) -> CancelScope {
        self.set_deadline(deadline);
        self
    }

    /// Runs `body` in the scope, until it completes or the scope is cancelled.
    ///
    /// A body that is ready at its first poll completes even if the deadline has elapsed. If the scope was
    /// cancelled before, `body` is not polled.
    ///
    /// # Errors
    /// Returns [`Cancelled`] if the scope was cancelled or its deadline elapsed; the body has been dropped.
    ///
    /// # Panics
    /// Panics if the scope was run before, if `body` panics, or if the scope has a deadline and is polled outside a
    /// runtime.
    ///
    /// # Cancel safety
    /// Cancel safe if `body` is: it is dropped, shielded sections included.
    ///
    /// # Examples
    /// ```
    /// use polyloop::yield_now;
    /// use polyloop::scope::CancelScope;
    ///
    /// # polyloop::run(async {
    /// let outcome = CancelScope::new().run(async |scope| {
    ///     scope.cancel();
    ///     yield_now().await;
    ///     unreachable!("the scope was cancelled");
    /// });
    /// let outcome: Result<(), _> = outcome.await;
    /// assert!(outcome.is_err());
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn run<T>(
        self,
        body: impl AsyncFnOnce(&CancelScope) -> T,
    ) -> impl Future<Output = Result<T, Cancelled>> {
        assert!(self.node.start(), "a cancel scope was run twice");
        self.run_body(body)
    }

    async fn run_body<T>(self, body: impl AsyncFnOnce(&CancelScope) -> T) -> Result<T, Cancelled> {
        let node = &self.node;
        let _end = EndOnDrop(Rc::clone(node));
        let outcome = {
            let mut body = pin!(body(&self));
            let mut timer = DeadlineTimer::default();
            poll_fn(|cx| {
                node.attach();
                node.poll(cx, |cx| {
                    let polled = body.as_mut().poll(cx);
                    if polled.is_pending() {
                        timer.poll(node, cx);
                    }
                    polled
                })
            })
            .await
            // Here the body is dropped, if it has not completed.
        };
        if outcome.is_err() && node.cancelled().is_none() {
            outlast_enclosing(node).await;
        }
        outcome
    }

    /// Returns the deadline of this scope, or `None` if it has none.
    ///
    /// A scope around it may have an earlier one: see [`current_effective_deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline()
    }

    /// Moves the deadline to `duration` from now on.
    ///
    /// A `duration` that ends later than the clock can represent, such as `Duration::MAX`, removes the deadline.
    /// Otherwise as [`set_deadline`](CancelScope::set_deadline).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::scope::CancelScope;
    ///
    /// # polyloop::run(async {
    /// let outcome = CancelScope::new().run(async |scope| {
    ///     scope.set_timeout(Duration::MAX);
    ///     assert_eq!(scope.deadline(), None);
    ///     scope.set_timeout(Duration::from_millis(1));
    ///     std::future::pending::<()>().await;
    /// });
    /// assert!(outcome.await.is_err());
    /// # }).unwrap();
    /// ```
    pub fn set_timeout(&self, duration: Duration) {
        self.node.set_deadline(now().checked_add(duration));
    }

    /// Moves the deadline, earlier or later, or removes it.
    ///
    /// A deadline in the past cancels the scope when its body awaits something that is not ready. On a scope that
    /// was cancelled this has no effect.
    ///
    /// # References
    /// Python's `asyncio.Timeout.reschedule`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::scope::CancelScope;
    ///
    /// # polyloop::run(async {
    /// let scope = CancelScope::new().timeout(Duration::from_secs(1));
    /// scope.run(async |scope| {
    ///     let deadline = scope.deadline().unwrap() + Duration::from_secs(1);
    ///     scope.set_deadline(deadline);
    ///     assert_eq!(scope.deadline(), Some(deadline));
    ///     scope.set_deadline(None);
    ///     assert_eq!(scope.deadline(), None);
    /// })
    /// .await
    /// .unwrap();
    /// # }).unwrap();
    /// ```
    #[doc(alias = "reschedule")]
    pub fn set_deadline(&self, deadline: impl Into<Option<Instant>>) {
        self.node.set_deadline(deadline.into());
    }

    /// Cancels the scope: its body is dropped, when the [`shielded`](crate::shielded) sections that have started
    /// in it have ended.
    ///
    /// Called from the body, it lets the body continue until it awaits something that is not ready.
    pub fn cancel(&self) {
        self.node.cancel(Cancelled::Requested);
    }

    /// Reports whether the scope was cancelled, by [`cancel`](CancelScope::cancel) or by its deadline.
    ///
    /// A scope that was cancelled stays cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.cancelled().is_some()
    }

    /// Reports whether the scope was cancelled by its deadline.
    pub fn is_elapsed(&self) -> bool {
        matches!(self.node.cancelled(), Some(Cancelled::Elapsed(_)))
    }
}

impl Default for CancelScope {
    fn default() -> CancelScope {
        CancelScope::new()
    }
}

impl fmt::Debug for CancelScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelScope")
            .field("deadline", &self.deadline())
            .field("cancelled", &self.node.cancelled())
            .finish()
    }
}

/// Returns the earliest deadline of all scopes around the caller, or `None` if they have none.
///
/// If one of the scopes is cancelled, this is the current time. Within a [`shielded`](crate::shielded) section,
/// scopes outside the section do not count. A [`timeout`](crate::timeout) is not a scope.
///
/// # References
/// trio's `current_effective_deadline`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::scope::{CancelScope, current_effective_deadline};
///
/// # polyloop::run(async {
/// assert_eq!(current_effective_deadline(), None);
/// let outer = CancelScope::new().timeout(Duration::from_secs(1));
/// outer.run(async |outer| {
///     let inner = CancelScope::new().timeout(Duration::from_secs(60));
///     inner.run(async |_| assert_eq!(current_effective_deadline(), outer.deadline())).await
/// })
/// .await
/// .unwrap()
/// .unwrap();
/// # }).unwrap();
/// ```
pub fn current_effective_deadline() -> Option<Instant> {
    current_scope()?.effective_deadline()
}

/// Waits to be dropped by the enclosing scope that was cancelled.
///
/// The code that follows an inner scope must not run any more than the code in it. This is ready only if the future
/// is polled outside the enclosing scope instead of being dropped.
pub(super) async fn outlast_enclosing(node: &Rc<ScopeNode>) {
    poll_fn(|_| {
        node.attach();
        if node.cancel_requested().is_some() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

/// Cancels a scope when its deadline elapses.
#[derive(Default)]
pub(super) struct DeadlineTimer {
    /// The timer, with the deadline for which it was set.
    sleep: Option<(Instant, Sleep)>,
}

impl DeadlineTimer {
    /// Checks the deadline, which may have been moved, and registers `cx` to be woken when it elapses.
    pub(super) fn poll(&mut self, node: &ScopeNode, cx: &mut Context<'_>) {
        let deadline = node.deadline().filter(|_| node.cancelled().is_none());
        let Some(deadline) = deadline else {
            self.sleep = None;
            return;
        };
        let (set_for, sleep) = self.sleep.get_or_insert_with(|| (deadline, sleep_until(deadline)));
        if *set_for != deadline {
            *set_for = deadline;
            sleep.reset(deadline);
        }
        if Pin::new(sleep).poll(cx).is_ready() {
            node.cancel(Cancelled::Elapsed(Elapsed::new()));
        }
    }
}
