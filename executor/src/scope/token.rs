//! [`CancellationToken`]: requests that tasks stop.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use crate::combine::Either;
use crate::combine::race::first_of;
use crate::combine::slab::Slab;
use crate::inspect::notes::Notes;
use crate::running::note;
use crate::running::poll_proceed;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

/// Requests cancellation of any number of tasks, on any threads.
///
/// A clone is another handle to the same token. [`child_token`](CancellationToken::child_token) creates a token that is
/// cancelled with its parent; cancelling the child does not cancel the parent.
///
/// The tasks decide when to stop. To drop a future instead, use a [`CancelScope`](crate::CancelScope).
///
/// All operations except `cancel` take constant time, regardless of the number of waiters. A child is cancelled with its
/// ancestors even if all handles to its parent have been dropped.
///
/// # Examples
/// ```
/// use polyloop::{CancellationToken, spawn};
///
/// # polyloop::run(async {
/// let token = CancellationToken::new();
/// let task = spawn({
///     let token = token.clone();
///     async move {
///         token.cancelled().await;
///         "cleaned up"
///     }
/// });
/// token.cancel();
/// assert_eq!(task.await.unwrap(), "cleaned up");
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    node: Arc<Node>,
}

#[derive(Default)]
struct Node {
    /// Set once, while the lock is held; never cleared. Once it is set, nothing is added to the state.
    cancelled: AtomicBool,
    state: Mutex<State>,
    /// `None` for a token that [`new`](CancellationToken::new) created.
    parent: Option<Link>,
}

#[derive(Default)]
struct State {
    waiters: Slab<Waker>,
    children: Slab<Weak<Node>>,
}

/// A node's place among its parent's children.
struct Link {
    parent: Arc<Node>,
    place: usize,
}

impl Node {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A loop rather than a recursion, because a chain of tokens may have any length.
        let mut link = self.parent.take();
        while let Some(Link { parent, place }) = link {
            let child = parent.lock().children.remove(place);
            drop(child);
            link = Arc::into_inner(parent).and_then(|mut parent| parent.parent.take());
        }
    }
}

impl CancellationToken {
    /// Creates a token that is not cancelled.
    ///
    /// # Examples
    /// ```
    /// assert!(!polyloop::CancellationToken::new().is_cancelled());
    /// ```
    pub fn new() -> CancellationToken {
        CancellationToken { node: Arc::default() }
    }

    /// Creates a token that is cancelled when this one is, or separately.
    ///
    /// # Examples
    /// ```
    /// use polyloop::CancellationToken;
    /// let server = CancellationToken::new();
    /// let connection = server.child_token();
    /// server.cancel();
    /// assert!(connection.is_cancelled());
    /// ```
    pub fn child_token(&self) -> CancellationToken {
        let mut state = self.node.lock();
        if self.node.is_cancelled() {
            drop(state);
            let child = CancellationToken::new();
            child.cancel();
            return child;
        }
        let node = Arc::new_cyclic(|child| {
            let place = state.children.insert(Weak::clone(child));
            let link = Link { parent: Arc::clone(&self.node), place };
            Node { parent: Some(link), cancelled: AtomicBool::new(false), state: Mutex::default() }
        });
        drop(state);
        CancellationToken { node }
    }

    /// Cancels the token and its descendants, permanently.
    ///
    /// All waiters are woken, even if the waker of one of them panics. Such a panic is caught.
    ///
    /// # Examples
    /// ```
    /// let token = polyloop::CancellationToken::new();
    /// token.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        let mut nodes = vec![Arc::clone(&self.node)];
        let mut wakers = Vec::new();
        while let Some(node) = nodes.pop() {
            let mut state = node.lock();
            if node.cancelled.swap(true, Ordering::AcqRel) {
                continue;
            }
            let State { waiters, children } = mem::take(&mut *state);
            drop(state);
            wakers.extend(waiters.into_values());
            nodes.extend(children.values().filter_map(Weak::upgrade));
        }
        // Outside every lock: wakers may be foreign, and one that panics must not keep the others from
        // being woken.
        for waker in wakers {
            wake_of(waker);
        }
    }

    /// Returns whether the token was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Waits until the token is cancelled.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect on the token.
    ///
    /// # Examples
    /// ```
    /// use polyloop::{CancellationToken, spawn};
    ///
    /// # polyloop::run(async {
    /// let token = CancellationToken::new();
    /// let other = token.clone();
    /// let _detached = spawn(async move { other.cancel() });
    /// token.cancelled().await;
    /// # }).unwrap();
    /// ```
    pub async fn cancelled(&self) {
        let mut waiting = Waiting { node: &self.node, registered: None };
        poll_fn(|cx| waiting.poll(cx)).await;
    }

    /// Awaits `future`, and returns its output, or `None` if the token is cancelled first.
    ///
    /// If the token is cancelled and `future` is ready, the result is `None`.
    ///
    /// # Cancel safety
    /// Cancel safety is that of `future`.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use polyloop::CancellationToken;
    ///
    /// # polyloop::run(async {
    /// let token = CancellationToken::new();
    /// assert_eq!(token.run_until_cancelled(async { 7 }).await, Some(7));
    /// token.cancel();
    /// assert_eq!(token.run_until_cancelled(pending::<()>()).await, None);
    /// # }).unwrap();
    /// ```
    pub fn run_until_cancelled<F: Future>(
        &self,
        future: F,
    ) -> impl Future<Output = Option<F::Output>> {
        first_of(self.cancelled(), future, 0, Either::right)
    }
}

/// A waiter of a token.
struct Waiting<'a> {
    node: &'a Node,
    /// The place among the waiters and the registered waker, so that a poll that changes nothing takes no lock.
    registered: Option<(usize, Waker)>,
}

impl Waiting<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.node.is_cancelled() {
            return poll_proceed(cx);
        }
        let is_known =
            self.registered.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker()));
        if !is_known && !self.register(cx.waker()) {
            return poll_proceed(cx);
        }
        note(Notes::TOKEN);
        Poll::Pending
    }

    /// Registers a waker with the token. Returns `false` if the token has been cancelled.
    fn register(&mut self, waker: &Waker) -> bool {
        // Cloned before the lock is taken, and dropped after it is released: they may be foreign.
        let kept = clone_of(waker);
        let mut left = Some(clone_of(waker));
        let former = self.registered.take();
        let mut state = self.node.lock();
        let is_cancelled = self.node.is_cancelled();
        if !is_cancelled {
            let place = former.as_ref().map(|(place, _)| *place);
            let place = match place.and_then(|place| Some((place, state.waiters.get_mut(place)?))) {
                Some((place, waiter)) => {
                    left = left.map(|left| mem::replace(waiter, left));
                    Some(place)
                }
                None => left.take().map(|left| state.waiters.insert(left)),
            };
            self.registered = place.map(|place| (place, kept));
        }
        drop(state);
        drop_of(left);
        drop_of(former.map(|(_, waker)| waker));
        !is_cancelled
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some((place, kept)) = self.registered.take() else { return };
        let waiter = self.node.lock().waiters.remove(place);
        drop_of(waiter);
        drop_of(Some(kept));
    }
}

impl Default for CancellationToken {
    fn default() -> CancellationToken {
        CancellationToken::new()
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancellationToken").field("cancelled", &self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;
    use crate::steps::count_steps;

    struct Foreign;

    impl Wake for Foreign {
        fn wake(self: Arc<Self>) {}
    }

    type Waiter = Pin<Box<dyn Future<Output = ()>>>;

    /// Polls `n_waiters` futures of one token, each with a separate waker.
    fn waiters(token: &CancellationToken, n_waiters: usize) -> Vec<(Waiter, Waker)> {
        let waiter = |_| {
            let token = token.clone();
            let mut waiter: Waiter = Box::pin(async move { token.cancelled().await });
            let waker = Waker::from(Arc::new(Foreign));
            assert!(waiter.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            (waiter, waker)
        };
        (0..n_waiters).map(waiter).collect()
    }

    /// Counts the steps of a hundred waiters among `n_waiters` that are polled again, with the same waker and with another
    /// one, and are replaced by others.
    fn steps_among(n_waiters: usize) -> u64 {
        let token = CancellationToken::new();
        let mut waiters = waiters(&token, n_waiters);
        let other = Waker::from(Arc::new(Foreign));
        let steps = count_steps(|| {
            for i in 0..100 {
                let (waiter, waker) = &mut waiters[i * (n_waiters / 100)];
                for waker in [&*waker, &other] {
                    let polled = waiter.as_mut().poll(&mut Context::from_waker(waker));
                    assert!(polled.is_pending());
                }
                let mut next = pin!(token.cancelled());
                assert_eq!(next.as_mut().poll(&mut Context::from_waker(waker)), Poll::Pending);
            }
        });
        steps + count_steps(|| drop(waiters))
    }

    #[test]
    fn a_waiter_costs_as_much_among_100_000_as_among_100() {
        let (few, many) = (steps_among(100), steps_among(100_000));
        // Each waiter is removed in one step, the hundred take a few more.
        assert!(few <= 100 * 8, "{few} steps among 100");
        assert!(many <= few + 100_000, "{many} steps among 100,000, {few} among 100");
    }

    #[test]
    fn a_child_costs_as_much_among_100_000_as_among_100() {
        let steps_among = |n_children: usize| {
            let token = CancellationToken::new();
            let mut children: Vec<_> = (0..n_children).map(|_| token.child_token()).collect();
            count_steps(|| {
                // As in a server, where a new connection follows each that ends.
                for child in children.iter_mut().take(100) {
                    *child = token.child_token();
                }
            })
        };
        let (few, many) = (steps_among(128), steps_among(131_072));
        assert!(few <= 100 * 4 && many <= few, "{many} steps among 131,072, {few} among 128");
    }
}
