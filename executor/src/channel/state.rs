//! What the two sides of a channel share, and the two ways of sharing it.
//!
//! Nothing in this file runs foreign code: messages and wakers are moved in and out, never
//! cloned, woken or dropped, so both ways of sharing may hold a lock or a borrow meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::rc::Rc;
use std::task::Waker;

use crate::sync::{Arc, Mutex};

/// The state of a channel.
///
/// Invariant: `queue`, granted waiters and permits together are no more than `capacity`, and
/// while there is room nobody waits for it without a grant.
pub struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    /// Slots that were reserved and not used yet.
    n_permits: usize,
    n_senders: usize,
    closed: bool,
    receiver: Option<Waker>,
    /// Senders that wait for room, in the order of their keys. The first `n_granted` have it.
    waiters: VecDeque<Waiter>,
    n_granted: usize,
    next_key: u64,
}

struct Waiter {
    key: u64,
    waker: Option<Waker>,
}

/// Names the place of a sender among those that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaiterKey(u64);

/// What a receiver finds.
pub(crate) enum Take<T> {
    /// A message, and a sender to be woken because of the room.
    Message(T, Option<Waker>),
    Empty,
    Closed,
}

/// What a sender that asks for room is told.
pub(crate) enum Room {
    Granted,
    Full,
    Closed,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("len", &self.queue.len()).finish_non_exhaustive()
    }
}

impl<T> State<T> {
    pub(crate) fn new(capacity: usize) -> State<T> {
        State {
            queue: VecDeque::new(),
            capacity,
            n_permits: 0,
            n_senders: 1,
            closed: false,
            receiver: None,
            waiters: VecDeque::new(),
            n_granted: 0,
            next_key: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.capacity != usize::MAX
    }

    pub(crate) fn max_capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the messages that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity - self.queue.len() - self.n_permits - self.n_granted
    }

    /// Queues a message for which there is room; returns the receiver, to be woken.
    #[inline]
    pub(crate) fn push(&mut self, message: T) -> Option<Waker> {
        self.queue.push_back(message);
        self.receiver.take()
    }

    /// Takes a slot for a permit, if one is free.
    pub(crate) fn try_reserve(&mut self) -> Room {
        if self.closed {
            return Room::Closed;
        }
        if self.capacity() == 0 {
            return Room::Full;
        }
        self.n_permits += 1;
        Room::Granted
    }

    /// Uses a permit's slot; returns the receiver, to be woken.
    pub(crate) fn push_reserved(&mut self, message: T) -> Option<Waker> {
        self.n_permits -= 1;
        self.push(message)
    }

    /// Gives a permit's slot back; returns who is to be woken.
    pub(crate) fn release(&mut self) -> [Option<Waker>; 2] {
        self.n_permits -= 1;
        let receiver = if self.is_over() { self.receiver.take() } else { None };
        [receiver, self.grant()]
    }

    /// Joins the end of those that wait for room.
    pub(crate) fn wait(&mut self, waker: Waker) -> WaiterKey {
        let key = self.next_key;
        self.next_key += 1;
        self.waiters.push_back(Waiter { key, waker: Some(waker) });
        WaiterKey(key)
    }

    /// Turns a grant into a permit, or leaves `waker` in the place that `key` names.
    ///
    /// What is left in `waker` is to be dropped outside.
    pub(crate) fn poll_wait(&mut self, key: WaiterKey, waker: &mut Option<Waker>) -> Room {
        if self.closed {
            return Room::Closed;
        }
        let Ok(index) = self.waiters.binary_search_by_key(&key.0, |waiter| waiter.key) else {
            return Room::Closed;
        };
        if index >= self.n_granted {
            mem::swap(&mut self.waiters[index].waker, waker);
            return Room::Full;
        }
        self.waiters.remove(index);
        self.n_granted -= 1;
        self.n_permits += 1;
        Room::Granted
    }

    /// Leaves the place that `key` names; returns a waker to be dropped, and one to be woken
    /// because a grant passes on.
    pub(crate) fn leave(&mut self, key: WaiterKey) -> (Option<Waker>, Option<Waker>) {
        let Ok(index) = self.waiters.binary_search_by_key(&key.0, |waiter| waiter.key) else {
            return (None, None);
        };
        let waker = self.waiters.remove(index).and_then(|waiter| waiter.waker);
        if index >= self.n_granted {
            return (waker, None);
        }
        self.n_granted -= 1;
        (waker, self.grant())
    }

    /// Gives a slot that has become free to whoever has waited longest; returns the waker.
    fn grant(&mut self) -> Option<Waker> {
        if self.n_granted == self.waiters.len() || self.capacity() == 0 {
            return None;
        }
        self.n_granted += 1;
        self.waiters[self.n_granted - 1].waker.take()
    }

    /// Takes the first message.
    #[inline]
    pub(crate) fn take(&mut self) -> Take<T> {
        match self.queue.pop_front() {
            Some(message) => Take::Message(message, self.grant()),
            None if self.is_over() => Take::Closed,
            None => Take::Empty,
        }
    }

    /// Swaps all messages for an empty queue. Only without a bound.
    #[inline]
    pub(crate) fn swap(&mut self, batch: &mut VecDeque<T>) {
        debug_assert!(!self.is_bounded() && batch.is_empty());
        mem::swap(&mut self.queue, batch);
    }

    /// Leaves the receiver's waker; returns the old one, to be dropped outside.
    #[inline]
    pub(crate) fn set_receiver(&mut self, waker: Waker) -> Option<Waker> {
        self.receiver.replace(waker)
    }

    /// Reports whether no message can come any more.
    fn is_over(&self) -> bool {
        self.n_senders == 0 || self.closed && self.n_permits == 0
    }

    pub(crate) fn add_sender(&mut self) {
        self.n_senders += 1;
    }

    /// Returns the receiver, to be woken, if that was the last sender.
    pub(crate) fn remove_sender(&mut self) -> Option<Waker> {
        self.n_senders -= 1;
        if self.n_senders == 0 { self.receiver.take() } else { None }
    }

    /// Refuses messages from now on; returns all who wait for room, to be woken.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        self.n_granted = 0;
        self.waiters.drain(..).filter_map(|waiter| waiter.waker).collect()
    }

    /// Takes all messages, to be dropped outside.
    pub(crate) fn empty(&mut self) -> VecDeque<T> {
        mem::take(&mut self.queue)
    }
}

/// How the two sides of a channel share its state: [`Threads`] or [`Local`](super::local::Local).
///
/// The trait is sealed: nobody else can make a state.
pub trait Shared<T>: Clone {
    #[doc(hidden)]
    const IS_LOCKED: bool;

    #[doc(hidden)]
    fn new(state: State<T>) -> Self;

    #[doc(hidden)]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R;
}

/// Shares a channel between threads.
pub struct Threads<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Threads<T> {
    fn clone(&self) -> Threads<T> {
        Threads(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> for Threads<T> {
    const IS_LOCKED: bool = true;

    fn new(state: State<T>) -> Threads<T> {
        Threads(Arc::new(Mutex::new(state)))
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R {
        // Nothing panics while the lock is held.
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Threads<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Threads")
    }
}

/// Shares a channel within one thread.
pub struct Local<T>(Rc<RefCell<State<T>>>);

impl<T> Clone for Local<T> {
    fn clone(&self) -> Local<T> {
        Local(Rc::clone(&self.0))
    }
}

impl<T> Shared<T> for Local<T> {
    const IS_LOCKED: bool = false;

    fn new(state: State<T>) -> Local<T> {
        Local(Rc::new(RefCell::new(state)))
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}
