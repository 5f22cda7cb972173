//! Deadlines that can be seen, moved and nested.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::scope_node::{EndOnDrop, ScopeNode, current_scope};
use crate::now;
use crate::time::{Sleep, sleep_until};

/// Awaits what `body` returns for `duration` at most, from now on, under a limit that `body` can
/// see and move.
///
/// It does what [`timeout`](crate::timeout) does, and more at a price: `body` is handed its
/// [`CancelScope`], nested scopes know each other's deadlines ([`current_effective_deadline`]), and
/// what is [`shielded`](crate::shielded) is waited for.
///
/// # Errors
/// [`Cancelled`] if the scope ended `body`, which has been dropped. A body that is done wins over a
/// deadline that has come.
///
/// # Panics
/// When polled outside a loop. If `body` does.
///
/// # Cancel safety
/// That of `body`, which is dropped, sections that are shielded as well.
///
/// # References
/// Python's `async with asyncio.timeout(…) as t`, trio's `move_on_after`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::scope::{Cancelled, timeout_with};
/// use polyloop::time::now;
///
/// # polyloop::run(async {
/// // Each step that succeeds earns another 20 ms.
/// let steps = timeout_with(Duration::from_millis(20), async |limit| {
///     for _ in 0..3 {
///         sleep(Duration::from_millis(1)).await;
///         limit.reschedule(now() + Duration::from_millis(20));
///     }
///     limit.reschedule(now());
///     sleep(Duration::from_secs(60)).await;
/// });
/// assert_eq!(steps.await, Err(Cancelled::Deadline));
/// # }).unwrap();
/// ```
pub fn timeout_with<T>(
    duration: Duration,
    body: impl AsyncFnOnce(&CancelScope) -> T,
) -> impl Future<Output = Result<T, Cancelled>> {
    run_body(now().checked_add(duration), body)
}

/// Awaits what `body` returns, in a scope that can be cancelled or given a deadline.
///
/// # Errors
/// [`Cancelled`] if the scope ended `body`, which has been dropped.
///
/// # Panics
/// If `body` does. When polled outside a loop once it has a deadline.
///
/// # Cancel safety
/// That of `body`, which is dropped, sections that are shielded as well.
///
/// # References
/// trio's `CancelScope`.
///
/// # Examples
/// ```
/// use polyloop::spawn;
/// use polyloop::scope::{Cancelled, cancel_scope};
///
/// # polyloop::run(async {
/// let outcome = cancel_scope(async |scope| {
///     let handle = scope.clone();
///     let _detached = spawn(async move { handle.cancel() });
///     std::future::pending::<()>().await;
/// });
/// assert_eq!(outcome.await, Err(Cancelled::Request));
/// # }).unwrap();
/// ```
pub async fn cancel_scope<T>(body: impl AsyncFnOnce(&CancelScope) -> T) -> Result<T, Cancelled> {
    run_body(None, body).await
}

async fn run_body<T>(
    deadline: Option<Instant>,
    body: impl AsyncFnOnce(&CancelScope) -> T,
) -> Result<T, Cancelled> {
    let scope = CancelScope::new(deadline);
    let node = &scope.node;
    let _end = EndOnDrop(Rc::clone(node));
    let outcome = {
        let mut body = pin!(body(&scope));
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
        // Here the body is dropped, if it has not ended.
    };
    if outcome.is_err() && node.cancelled().is_none() {
        outlast_enclosing(node).await;
    }
    outcome
}

/// Waits to be dropped by the enclosing scope that was cancelled.
///
/// What follows an inner scope is no more to run than what is in it. Ready only if the future is
/// polled elsewhere instead of being dropped.
pub(super) async fn outlast_enclosing(node: &Rc<ScopeNode>) {
    poll_fn(|_| {
        node.attach();
        if node.doom().is_some() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

/// Cancels a scope when its deadline has come.
#[derive(Default)]
pub(super) struct DeadlineTimer {
    /// With the deadline that it was given.
    sleep: Option<(Instant, Sleep)>,
}

impl DeadlineTimer {
    /// Looks at the deadline, which may have been moved, and has `cx` woken when it comes.
    pub(super) fn poll(&mut self, node: &ScopeNode, cx: &mut Context<'_>) {
        let deadline = node.deadline().filter(|_| node.cancelled().is_none());
        let Some(deadline) = deadline else {
            self.sleep = None;
            return;
        };
        let (given, sleep) = self.sleep.get_or_insert_with(|| (deadline, sleep_until(deadline)));
        if *given != deadline {
            *given = deadline;
            sleep.reset(deadline);
        }
        if Pin::new(sleep).poll(cx).is_ready() {
            node.cancel(Cancelled::Deadline);
        }
    }
}

/// Reaches a scope that can be cancelled and has a deadline, or none.
///
/// Made by [`timeout_with`] and [`cancel_scope`], and by [`scope`](crate::scope), whose
/// [group](crate::TaskGroup::cancel_scope) has one. Cloning it makes another handle to the same
/// scope, for other tasks of the loop. Once the scope has ended, nothing has an effect on it.
///
/// A scope that is cancelled drops what runs in it, at once or, where a
/// [shielded](crate::shielded) section has begun, when that has ended. Until then the rest of a
/// body goes on, for a part of a future cannot be dropped, but groups within end their other members
/// at once, and no inner scope begins.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::scope::timeout_with;
/// use polyloop::time::now;
///
/// # polyloop::run(async {
/// timeout_with(Duration::from_secs(1), async |limit| {
///     let deadline = limit.deadline().unwrap();
///     limit.reschedule(deadline + Duration::from_secs(1));
///     assert!(limit.deadline().unwrap() > now() + Duration::from_secs(1));
///     limit.reschedule(None);
///     assert_eq!(limit.deadline(), None);
/// })
/// .await
/// .unwrap();
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CancelScope {
    pub(super) node: Rc<ScopeNode>,
}

impl CancelScope {
    pub(super) fn new(deadline: Option<Instant>) -> CancelScope {
        CancelScope { node: ScopeNode::new(deadline) }
    }

    /// Returns the deadline of this scope; none is never.
    ///
    /// A scope around it may end it before: see [`current_effective_deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        self.node.deadline()
    }

    /// Moves the deadline, earlier or later; none is never.
    ///
    /// One in the past cancels the scope as soon as its body waits for something. A scope that is
    /// cancelled already stays so. For any `Duration` there is
    /// `reschedule(now().checked_add(duration))`.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::sleep;
    /// use polyloop::scope::cancel_scope;
    /// use polyloop::time::now;
    ///
    /// # polyloop::run(async {
    /// let outcome = cancel_scope(async |scope| {
    ///     // `Duration::MAX` from now is later than a clock can tell: never.
    ///     scope.reschedule(now().checked_add(Duration::MAX));
    ///     assert_eq!(scope.deadline(), None);
    ///     scope.reschedule(now() + Duration::from_millis(1));
    ///     sleep(Duration::from_secs(60)).await;
    /// });
    /// assert!(outcome.await.is_err());
    /// # }).unwrap();
    /// ```
    pub fn reschedule(&self, deadline: impl Into<Option<Instant>>) {
        self.node.set_deadline(deadline.into());
    }

    /// Cancels the scope: what runs in it is dropped as soon as no
    /// [shielded](crate::shielded) section is left in it.
    ///
    /// Called from within, it lets the caller go on until it waits for something.
    ///
    /// # Examples
    /// ```
    /// use polyloop::yield_now;
    /// use polyloop::scope::cancel_scope;
    ///
    /// # polyloop::run(async {
    /// let outcome = cancel_scope(async |scope| {
    ///     scope.cancel();
    ///     yield_now().await;
    ///     unreachable!("it was cancelled while it waited")
    /// });
    /// let outcome: Result<(), _> = outcome.await;
    /// assert!(outcome.is_err());
    /// # }).unwrap();
    /// ```
    pub fn cancel(&self) {
        self.node.cancel(Cancelled::Request);
    }

    /// Reports whether the scope was cancelled, by its deadline or by request. Once cancelled,
    /// always cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.cancelled().is_some()
    }

    /// Reports whether the scope was cancelled by its deadline.
    pub fn is_expired(&self) -> bool {
        self.node.cancelled() == Some(Cancelled::Deadline)
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

/// Returns when whoever asks will be cancelled: the earliest deadline of all scopes around it.
///
/// None is never. It is now, if one of them is cancelled already. Scopes outside a
/// [shielded](crate::shielded) section do not count within it, and plain
/// [timeouts](crate::timeout) nowhere.
///
/// # References
/// trio's `current_effective_deadline`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::scope::{current_effective_deadline, timeout_with};
///
/// # polyloop::run(async {
/// assert_eq!(current_effective_deadline(), None);
/// timeout_with(Duration::from_secs(1), async |outer| {
///     timeout_with(Duration::from_secs(60), async |_| {
///         assert_eq!(current_effective_deadline(), outer.deadline());
///     })
///     .await
/// })
/// .await
/// .unwrap()
/// .unwrap();
/// # }).unwrap();
/// ```
pub fn current_effective_deadline() -> Option<Instant> {
    current_scope()?.effective_deadline()
}

/// Says what made a scope end its body before the body was done.
///
/// # Examples
/// ```
/// use std::io;
/// use polyloop::scope::Cancelled;
/// assert_eq!(Cancelled::Deadline.to_string(), "deadline has elapsed");
/// assert_eq!(io::Error::from(Cancelled::Deadline).kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancelled {
    /// The deadline came.
    Deadline,
    /// Somebody asked for it.
    Request,
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cancelled::Deadline => "deadline has elapsed",
            Cancelled::Request => "scope was cancelled",
        })
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        match cancelled {
            Cancelled::Deadline => io::Error::new(io::ErrorKind::TimedOut, cancelled),
            Cancelled::Request => io::Error::other(cancelled),
        }
    }
}
