//! Asking tasks to stop, rather than stopping them.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use super::{Either, race};
use crate::notes::{Notes, note};
use crate::waker::clone_of;

/// Tells any number of tasks, on any threads, that they should come to an end.
///
/// Cloning it makes another handle to the same token; [`child`](CancellationToken::child) makes a
/// token that is cancelled with its parent, but not the other way round.
///
/// A token asks, and who is asked decides when to stop. A [`CancelScope`](crate::CancelScope) drops
/// what runs in it.
///
/// # Examples
/// ```
/// use polyloop_executor::{CancellationToken, spawn};
///
/// # polyloop_executor::run(async {
/// let token = CancellationToken::new();
/// let task = spawn({
///     let token = token.clone();
///     async move {
///         token.cancelled().await;
///         "tidied up"
///     }
/// });
/// token.cancel();
/// assert_eq!(task.await.unwrap(), "tidied up");
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct CancellationToken {
    node: Arc<Node>,
}

#[derive(Default)]
struct Node {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    next_key: u64,
    waiters: Vec<(u64, Waker)>,
    children: Vec<Weak<Node>>,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancellationToken {
    /// Makes a token that is not cancelled.
    ///
    /// # Examples
    /// ```
    /// assert!(!polyloop_executor::CancellationToken::new().is_cancelled());
    /// ```
    pub fn new() -> CancellationToken {
        CancellationToken { node: Arc::default() }
    }

    /// Makes a token that is cancelled when this one is, or by itself.
    ///
    /// # Examples
    /// ```
    /// use polyloop_executor::CancellationToken;
    /// let server = CancellationToken::new();
    /// let connection = server.child();
    /// server.cancel();
    /// assert!(connection.is_cancelled());
    /// ```
    pub fn child(&self) -> CancellationToken {
        let child = CancellationToken::new();
        let mut state = self.node.lock();
        if state.cancelled {
            drop(state);
            child.cancel();
            return child;
        }
        // Those that are gone make room, so that the list is at most twice as long as needed.
        if state.children.len() == state.children.capacity() {
            state.children.retain(|child| child.strong_count() > 0);
        }
        state.children.push(Arc::downgrade(&child.node));
        drop(state);
        child
    }

    /// Cancels the token and all below it. Once cancelled, always cancelled.
    ///
    /// # Examples
    /// ```
    /// let token = polyloop_executor::CancellationToken::new();
    /// token.cancel();
    /// assert!(token.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        let mut nodes = vec![Arc::clone(&self.node)];
        let mut wakers = Vec::new();
        while let Some(node) = nodes.pop() {
            let mut state = node.lock();
            if mem::replace(&mut state.cancelled, true) {
                continue;
            }
            wakers.extend(mem::take(&mut state.waiters).into_iter().map(|(_, waker)| waker));
            nodes.extend(mem::take(&mut state.children).iter().filter_map(Weak::upgrade));
        }
        // Outside every lock: wakers may be foreign.
        for waker in wakers {
            waker.wake();
        }
    }

    /// Reports whether the token was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.node.lock().cancelled
    }

    /// Waits until the token is cancelled.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    ///
    /// # Examples
    /// ```
    /// use polyloop_executor::{CancellationToken, spawn};
    ///
    /// # polyloop_executor::run(async {
    /// let token = CancellationToken::new();
    /// let other = token.clone();
    /// let _detached = spawn(async move { other.cancel() });
    /// token.cancelled().await;
    /// # }).unwrap();
    /// ```
    pub async fn cancelled(&self) {
        struct Waiting<'a> {
            node: &'a Node,
            key: Option<u64>,
        }

        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                let Some(key) = self.key else { return };
                let mut state = self.node.lock();
                let position = state.waiters.iter().position(|(k, _)| *k == key);
                let waiter = position.map(|position| state.waiters.remove(position));
                drop(state);
                drop(waiter);
            }
        }

        let mut waiting = Waiting { node: &self.node, key: None };
        poll_fn(|cx| {
            let waker = clone_of(cx.waker());
            let mut state = waiting.node.lock();
            if state.cancelled {
                drop(state);
                drop(waker);
                return Poll::Ready(());
            }
            let known = state.waiters.iter_mut().find(|(key, _)| Some(*key) == waiting.key);
            let replaced = match known {
                Some((_, place)) => Some(mem::replace(place, waker)),
                None => {
                    let key = state.next_key;
                    state.next_key += 1;
                    state.waiters.push((key, waker));
                    waiting.key = Some(key);
                    None
                }
            };
            drop(state);
            drop(replaced);
            note(Notes::TOKEN);
            Poll::Pending
        })
        .await;
    }

    /// Awaits `future` until the token is cancelled; none if that comes first.
    ///
    /// A token that is cancelled already wins over a future that is ready.
    ///
    /// # Cancel safety
    /// That of `future`.
    ///
    /// # Examples
    /// ```
    /// use std::future::pending;
    /// use polyloop_executor::CancellationToken;
    ///
    /// # polyloop_executor::run(async {
    /// let token = CancellationToken::new();
    /// assert_eq!(token.run_until_cancelled(async { 7 }).await, Some(7));
    /// token.cancel();
    /// assert_eq!(token.run_until_cancelled(pending::<()>()).await, None);
    /// # }).unwrap();
    /// ```
    pub async fn run_until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        match race(self.cancelled(), future).await {
            Either::Left(()) => None,
            Either::Right(output) => Some(output),
        }
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
