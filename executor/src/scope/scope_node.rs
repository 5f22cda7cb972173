//! Where a future stands among cancel scopes, and what holds them.
//!
//! ```text
//!   timeout_with ◀── scope ◀── body ◀── shielded section
//!                      ▲
//!                      ├────── child ◀── cancel_scope ◀── shielded section
//!                      └────── child
//! ```
//! A scope is *entered* whenever what runs in it is polled, so the thread always knows the
//! innermost one. Whatever is polled finds its place by that, anew at every poll: a future may be
//! polled in one scope and later in another.
//!
//! Pointers go from the inner scope to the outer. A scope that is cancelled does not look for those
//! in it; they ask upwards when they are polled, and their owner polls or wakes them.

use std::cell::{Cell, RefCell};
use std::iter;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::Cancelled;
use crate::now;
use crate::raw::waker::{clone_of, drop_of, wake_of};

thread_local! {
    /// The innermost scope in which the thread polls.
    static CURRENT: Cell<Option<Rc<ScopeNode>>> = const { Cell::new(None) };
}

/// Returns the innermost scope in which the thread polls.
pub(crate) fn current_scope() -> Option<Rc<ScopeNode>> {
    let scope = replace_current(None);
    replace_current(scope.clone());
    scope
}

/// Polls in `scope`, or outside all scopes if there is none.
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

/// Puts a scope where the thread finds it. At the very end of a thread there is no such place.
fn replace_current(scope: Option<Rc<ScopeNode>>) -> Option<Rc<ScopeNode>> {
    CURRENT.try_with(|current| current.replace(scope)).unwrap_or_default()
}

/// What is known of one scope, or of one member of a group.
#[derive(Default)]
pub(crate) struct ScopeNode {
    /// The scope around it.
    ///
    /// Invariant: no chain of parents is a ring.
    parent: RefCell<Option<Rc<ScopeNode>>>,
    deadline: Cell<Option<Instant>>,
    /// Why it is to end. Never taken back.
    cancelled: Cell<Option<Cancelled>>,
    has_ended: Cell<bool>,
    /// The shielded sections that hold it: those in it and in all scopes within it.
    n_sections: Cell<usize>,
    /// Whoever polls it. None while it is polled: what changes then is looked at afterwards.
    waker: Cell<Option<Waker>>,
}

impl ScopeNode {
    /// Makes a scope with a deadline, if there is one.
    pub(crate) fn new(deadline: Option<Instant>) -> Rc<ScopeNode> {
        Rc::new(ScopeNode { deadline: Cell::new(deadline), ..ScopeNode::default() })
    }

    /// Makes a scope within this one.
    pub(crate) fn inner(self: &Rc<Self>) -> Rc<ScopeNode> {
        Rc::new(ScopeNode { parent: RefCell::new(Some(Rc::clone(self))), ..ScopeNode::default() })
    }

    /// Polls what runs in the scope, unless that is to end, before or after.
    ///
    /// # Errors
    /// Why it is to end: whoever calls drops it then.
    pub(crate) fn poll<T>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Cancelled>> {
        drop_of(self.waker.take());
        let doom_before = self.doom();
        if let Some(why) = doom_before.filter(|_| !self.is_held()) {
            return Poll::Ready(Err(why));
        }
        if let Poll::Ready(value) = enter(Some(Rc::clone(self)), || poll(cx)) {
            return Poll::Ready(Ok(value));
        }
        if let Some(why) = self.doom() {
            if !self.is_held() {
                return Poll::Ready(Err(why));
            }
            if doom_before.is_none() {
                // The rest of what is in it does not know yet.
                cx.waker().wake_by_ref();
            }
        }
        self.wait(cx)
    }

    /// Has `cx` woken when the scope is to be polled again.
    pub(crate) fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        drop_of(self.waker.replace(Some(clone_of(cx.waker()))));
        Poll::Pending
    }

    /// Says why the scope is to end, or one around it.
    pub(crate) fn doom(&self) -> Option<Cancelled> {
        self.own_doom().or_else(|| self.around().find_map(|scope| scope.own_doom()))
    }

    /// Says why what runs in the scope is to end now, which no section forbids.
    pub(crate) fn must_end(&self) -> Option<Cancelled> {
        if self.is_held() { None } else { self.doom() }
    }

    fn own_doom(&self) -> Option<Cancelled> {
        self.cancelled.get().filter(|_| !self.has_ended.get())
    }

    fn is_held(&self) -> bool {
        self.n_sections.get() > 0
    }

    /// Cancels the scope, unless it was cancelled before or has ended.
    pub(crate) fn cancel(&self, why: Cancelled) {
        if !self.has_ended.get() && self.cancelled.get().is_none() {
            self.cancelled.set(Some(why));
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

    /// Returns the earliest deadline of the scope and those around it: now, if one is cancelled.
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

    /// Has whoever polls the scope poll it again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            wake_of(waker);
        }
    }

    /// Begins a poll: finds its place in the scope in which it is polled.
    pub(crate) fn attach(self: &Rc<Self>) {
        drop_of(self.waker.take());
        let around = current_scope();
        if !is_same(&self.parent.borrow(), &around) {
            // Only a future that was handed to a task of its own could be polled within itself.
            let is_within = outwards(around.clone()).any(|scope| Rc::ptr_eq(&scope, self));
            self.move_to(if is_within { None } else { around });
        }
    }

    /// Notes that nothing runs in the scope any more.
    pub(crate) fn end(&self) {
        self.has_ended.set(true);
        self.move_to(None);
        drop_of(self.waker.take());
    }

    /// Goes from the scope around this one to the one around that, and so on.
    fn around(&self) -> impl Iterator<Item = Rc<ScopeNode>> {
        outwards(self.parent.borrow().clone())
    }

    /// Moves the scope into another, with all sections in it.
    fn move_to(&self, parent: Option<Rc<ScopeNode>>) {
        match self.n_sections.get() {
            0 => drop(self.parent.replace(parent)),
            n_sections => {
                // In this order, so that a scope around both is never free between.
                hold(&parent, n_sections);
                let former = self.parent.replace(parent);
                release(&former, n_sections);
            }
        }
    }
}

fn is_same(one: &Option<Rc<ScopeNode>>, other: &Option<Rc<ScopeNode>>) -> bool {
    one.as_ref().map(Rc::as_ptr) == other.as_ref().map(Rc::as_ptr)
}

/// Goes from a scope to the one around it, and so on.
fn outwards(scope: Option<Rc<ScopeNode>>) -> impl Iterator<Item = Rc<ScopeNode>> {
    iter::successors(scope, |scope| scope.parent.borrow().clone())
}

/// Lets sections hold a scope and all around it.
fn hold(scope: &Option<Rc<ScopeNode>>, n_sections: usize) {
    for scope in outwards(scope.clone()) {
        scope.n_sections.set(scope.n_sections.get() + n_sections);
    }
}

/// Lets go of a scope and all around it; those that only waited for that are woken.
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

/// Holds the scopes around a shielded section, from its first poll to its end.
#[derive(Default)]
pub(crate) struct Hold {
    /// Where the section was polled last.
    scope: Option<Rc<ScopeNode>>,
    holds: bool,
}

impl Hold {
    /// Finds the section's place in the scope in which it is polled.
    ///
    /// A scope that is cancelled already is not held: it waits for the sections that had begun,
    /// or it might wait for ever.
    pub(crate) fn attach(&mut self) {
        let scope = current_scope();
        if is_same(&self.scope, &scope) {
            return;
        }
        self.let_go();
        self.holds = scope.as_ref().is_some_and(|scope| scope.doom().is_none());
        if self.holds {
            hold(&scope, 1);
        }
        self.scope = scope;
    }

    fn let_go(&mut self) {
        let scope = self.scope.take();
        if self.holds {
            release(&scope, 1);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Ends a scope when it is dropped, however that comes.
pub(crate) struct EndOnDrop(pub(crate) Rc<ScopeNode>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}
