//! The tree of cancel scopes: where a future is in it, and which shielded sections hold a scope.
//!
//! ```text
//!   CancelScope ◀── TaskGroup ◀── body ◀── shielded section
//!                      ▲
//!                      ├────── child ◀── CancelScope ◀── shielded section
//!                      └────── child
//! ```
//! A scope is *entered* whenever its future is polled, so each thread knows its innermost scope. A scope or
//! section takes that as its parent, at every poll anew: a future may be polled in one scope and later in another.
//!
//! Pointers lead from the inner scope to the outer one. A scope that is cancelled does not search for scopes in
//! it; these check the scopes around them when they are polled, and their owner polls or wakes them.

use std::cell::{Cell, RefCell};
use std::iter;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Cancelled;
use crate::now;
use crate::steps::step;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

thread_local! {
    /// The innermost scope that the thread polls in.
    static CURRENT: Cell<Option<Rc<ScopeNode>>> = const { Cell::new(None) };
    /// Incremented when an answer that scopes of this thread have cached is no longer right.
    static EPOCH: Cell<u64> = const { Cell::new(1) };
}

/// Returns the innermost scope that the thread polls in.
pub(crate) fn current_scope() -> Option<Rc<ScopeNode>> {
    let scope = replace_current(None);
    replace_current(scope.clone());
    scope
}

/// Calls `poll` in `scope`, or outside all scopes if it is `None`.
pub(crate) fn enter<R>(scope: Option<Rc<ScopeNode>>, poll: impl FnOnce() -> R) -> R {
    struct Leave(Option<Rc<ScopeNode>>);

    impl Drop for Leave {
        fn drop(&mut self) {
            replace_current(self.0.take());
        }
    }

    let _leave = Leave(replace_current(scope));
    poll()
}

/// Sets the thread's innermost scope, and returns the former one. While a thread exits it has no effect.
fn replace_current(scope: Option<Rc<ScopeNode>>) -> Option<Rc<ScopeNode>> {
    CURRENT.try_with(|current| current.replace(scope)).unwrap_or_default()
}

/// The state of one scope, or of one member of a group.
#[derive(Default)]
pub(crate) struct ScopeNode {
    /// The scope around it.
    ///
    /// Invariant: no chain of parents is a ring.
    parent: RefCell<Option<Rc<ScopeNode>>>,
    deadline: Cell<Option<Instant>>,
    /// Set once, and never cleared.
    cancelled: Cell<Option<Cancelled>>,
    has_started: Cell<bool>,
    has_attached: Cell<bool>,
    has_ended: Cell<bool>,
    /// The answer of [`cancel_requested`](ScopeNode::cancel_requested), and the epoch in which it is right.
    ///
    /// Invariant: if it is right, so are those of all scopes around this one.
    cached: Cell<(u64, Option<Cancelled>)>,
    /// The shielded sections in this scope and in all scopes within it.
    n_sections: Cell<usize>,
    /// Wakes the task that polls the scope. `None` during a poll, which checks for changes at its end.
    waker: Cell<Option<Waker>>,
}

impl ScopeNode {
    /// Marks the scope as started; returns `false` if it was before.
    pub(crate) fn start(&self) -> bool {
        !self.has_started.replace(true)
    }

    /// Creates a scope within this one.
    pub(crate) fn inner(self: &Rc<Self>) -> Rc<ScopeNode> {
        Rc::new(ScopeNode { parent: RefCell::new(Some(Rc::clone(self))), ..ScopeNode::default() })
    }

    /// Polls the future of the scope, unless the scope must end.
    ///
    /// # Errors
    /// Returns why the scope must end: the caller drops the future then.
    pub(crate) fn poll<T>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Cancelled>> {
        drop_of(self.waker.take());
        let requested_before = self.cancel_requested();
        if let Some(why) = requested_before.filter(|_| !self.is_held()) {
            return Poll::Ready(Err(why));
        }
        if let Poll::Ready(value) = enter(Some(Rc::clone(self)), || poll(cx)) {
            return Poll::Ready(Ok(value));
        }
        if let Some(why) = self.cancel_requested() {
            if !self.is_held() {
                return Poll::Ready(Err(why));
            }
            if requested_before.is_none() {
                // Parts of the future that were polled before the request have not seen it.
                cx.waker().wake_by_ref();
            }
        }
        self.wait(cx)
    }

    /// Registers `cx` to be woken when the scope must be polled again.
    pub(crate) fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        drop_of(self.waker.replace(Some(clone_of(cx.waker()))));
        Poll::Pending
    }

    /// Returns why this scope, or one around it, was cancelled.
    ///
    /// In constant time, unless a scope of the thread was cancelled or moved since the last call: otherwise polling
    /// nested scopes would take time by the square of their number.
    #[inline]
    pub(crate) fn cancel_requested(&self) -> Option<Cancelled> {
        self.cached_request().unwrap_or_else(|| self.find_request())
    }

    /// Searches this scope and those around it, and caches the answer in all scopes that were searched.
    fn find_request(&self) -> Option<Cancelled> {
        let mut n_searched = 0;
        let mut request = self.own_request();
        if request.is_none() {
            for scope in self.around() {
                step();
                if let Some(cached) = scope.cached_request() {
                    request = cached;
                    break;
                }
                n_searched += 1;
                request = scope.own_request();
                if request.is_some() {
                    break;
                }
            }
        }
        let epoch = EPOCH.get();
        self.cached.set((epoch, request));
        self.around().take(n_searched).for_each(|scope| scope.cached.set((epoch, request)));
        request
    }

    fn cached_request(&self) -> Option<Option<Cancelled>> {
        let (epoch, request) = self.cached.get();
        (epoch == EPOCH.get()).then_some(request)
    }

    /// Returns why the scope must end now: it was cancelled, and no shielded section holds it.
    pub(crate) fn must_end(&self) -> Option<Cancelled> {
        if self.is_held() { None } else { self.cancel_requested() }
    }

    fn own_request(&self) -> Option<Cancelled> {
        self.cancelled.get().filter(|_| !self.has_ended.get())
    }

    fn is_held(&self) -> bool {
        self.n_sections.get() > 0
    }

    /// Cancels the scope, unless it was cancelled before or has ended.
    pub(crate) fn cancel(&self, why: Cancelled) {
        if !self.has_ended.get() && self.cancelled.get().is_none() {
            self.cancelled.set(Some(why));
            invalidate_caches();
            self.wake();
        }
    }

    pub(crate) fn cancelled(&self) -> Option<Cancelled> {
        self.cancelled.get()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    pub(crate) fn set_deadline(&self, deadline: Option<Instant>) {
        if self.cancelled.get().is_none() && self.deadline.replace(deadline) != deadline {
            self.wake();
        }
    }

    /// Returns the earliest deadline of this scope and the scopes around it, or now if one was cancelled.
    pub(crate) fn effective_deadline(&self) -> Option<Instant> {
        let around = self.around().filter_map(|scope| scope.own_deadline());
        self.own_deadline().into_iter().chain(around).min()
    }

    fn own_deadline(&self) -> Option<Instant> {
        match self.cancelled.get() {
            _ if self.has_ended.get() => None,
            Some(_) => Some(now()),
            None => self.deadline.get(),
        }
    }

    /// Wakes the task that polls the scope.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            wake_of(waker);
        }
    }

    /// Starts a poll: makes the scope in which this one is polled its parent.
    pub(crate) fn attach(self: &Rc<Self>) {
        drop_of(self.waker.take());
        let around = current_scope();
        if !is_same(&self.parent.borrow(), &around) {
            // A future that was moved to a task which it has spawned would be polled within its own scope.
            let is_within = self.has_attached.replace(true)
                && outwards(around.clone()).any(|scope| Rc::ptr_eq(&scope, self));
            self.move_to(if is_within { None } else { around });
        }
    }

    /// Ends the scope: its future has completed or was dropped.
    pub(crate) fn end(&self) {
        self.has_ended.set(true);
        self.move_to(None);
        drop_of(self.waker.take());
    }

    /// Iterates over the scopes around this one, from the inside out.
    fn around(&self) -> impl Iterator<Item = Rc<ScopeNode>> {
        outwards(self.parent.borrow().clone())
    }

    /// Moves the scope, with all sections in it, into another one.
    fn move_to(&self, parent: Option<Rc<ScopeNode>>) {
        match self.n_sections.get() {
            0 => drop(self.parent.replace(parent)),
            n_sections => {
                // In this order, so that a scope around both is held throughout.
                hold(&parent, n_sections);
                let former = self.parent.replace(parent);
                release(&former, n_sections);
            }
        }
        self.check_cache();
    }

    /// Invalidates all caches if this scope's is no longer right.
    fn check_cache(&self) {
        // Scopes in this one have cached something only if this one has.
        let Some(cached) = self.cached_request() else { return };
        let around = self.parent.borrow().clone();
        let request = self.own_request().or_else(|| around?.cancel_requested());
        if request != cached {
            invalidate_caches();
        }
    }
}

/// Makes each scope of the thread search again.
fn invalidate_caches() {
    EPOCH.set(EPOCH.get() + 1);
}

fn is_same(one: &Option<Rc<ScopeNode>>, other: &Option<Rc<ScopeNode>>) -> bool {
    one.as_ref().map(Rc::as_ptr) == other.as_ref().map(Rc::as_ptr)
}

/// Iterates over `scope` and the scopes around it, from the inside out.
fn outwards(scope: Option<Rc<ScopeNode>>) -> impl Iterator<Item = Rc<ScopeNode>> {
    iter::successors(scope, |scope| scope.parent.borrow().clone())
}

/// Makes sections hold a scope and all scopes around it.
fn hold(scope: &Option<Rc<ScopeNode>>, n_sections: usize) {
    for scope in outwards(scope.clone()) {
        scope.n_sections.set(scope.n_sections.get() + n_sections);
    }
}

/// Releases a scope and all scopes around it, and wakes those that can end now.
fn release(scope: &Option<Rc<ScopeNode>>, n_sections: usize) {
    for scope in outwards(scope.clone()) {
        scope.n_sections.set(scope.n_sections.get() - n_sections);
    }
    for scope in outwards(scope.clone()) {
        if scope.must_end().is_some() {
            scope.wake();
        }
    }
}

/// Holds the scopes around a shielded section, from the section's first poll until it is dropped.
#[derive(Default)]
pub(crate) struct Hold {
    /// The scope in which the section was polled last.
    scope: Option<Rc<ScopeNode>>,
    holds: bool,
}

impl Hold {
    /// Holds the scope in which the section is polled, and no other.
    ///
    /// A scope that was cancelled before is not held: it waits for sections that had started by then, or it could
    /// wait indefinitely.
    pub(crate) fn attach(&mut self) {
        let scope = current_scope();
        if is_same(&self.scope, &scope) {
            return;
        }
        self.release();
        self.holds = scope.as_ref().is_some_and(|scope| scope.cancel_requested().is_none());
        if self.holds {
            hold(&scope, 1);
        }
        self.scope = scope;
    }

    fn release(&mut self) {
        let scope = self.scope.take();
        if self.holds {
            release(&scope, 1);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

/// Ends a scope when it is dropped.
pub(crate) struct EndOnDrop(pub(crate) Rc<ScopeNode>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use crate::steps::count_steps;
    use crate::{CancelScope, Cancelled, TaskGroup, run, shielded, yield_now};

    fn nest(depth: usize) -> Pin<Box<dyn Future<Output = Result<(), Cancelled>>>> {
        Box::pin(async move {
            if depth == 0 {
                for _ in 0..10 {
                    yield_now().await;
                }
                return Ok(());
            }
            CancelScope::new().run(async |_| nest(depth - 1).await).await?
        })
    }

    #[test]
    fn a_poll_of_nested_scopes_takes_steps_by_their_number() {
        let steps_of = |depth| count_steps(|| run(nest(depth)).unwrap().unwrap());
        let (few, many) = (steps_of(10), steps_of(200));
        assert!(many <= 20 * (few + 10), "{few} steps of 10 scopes, {many} of 200");
    }

    async fn poll_once(body: &mut Pin<Box<impl Future>>) {
        poll_fn(|cx| {
            assert!(body.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }

    #[test]
    fn a_scope_sees_each_cancellation_around_it_wherever_it_is_polled() {
        run(async {
            // The inner scope is polled within `first`, then within `second`, which is cancelled.
            let inner = CancelScope::new();
            let node = inner.node.clone();
            let mut body = Box::pin(inner.run(async |_| {
                for _ in 0..4 {
                    shielded(yield_now()).await;
                }
            }));
            CancelScope::new().run(async |_| poll_once(&mut body).await).await.unwrap();
            assert_eq!(node.cancel_requested(), None);
            let second = CancelScope::new();
            let handle = second.clone();
            second
                .run(async |_| {
                    poll_once(&mut body).await;
                    assert_eq!(node.cancel_requested(), None);
                    handle.cancel();
                    assert_eq!(node.cancel_requested(), Some(Cancelled::Requested));
                })
                .await
                .unwrap();
            assert_eq!(node.cancel_requested(), None);
            let group = TaskGroup::<()>::scope(async |group| {
                poll_once(&mut body).await;
                group.cancel_scope().cancel();
                assert_eq!(node.cancel_requested(), Some(Cancelled::Requested));
                Ok(())
            });
            group.await.unwrap();
            assert_eq!(node.cancel_requested(), None);
            assert_eq!(body.await, Ok(()));
        })
        .unwrap();
    }
}
