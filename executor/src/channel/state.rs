//! The state that the sides of a channel share.
//!
//! Nothing in this file runs foreign code: messages and wakers are moved in and out, never cloned, woken or dropped.
//! Both ways of sharing may therefore hold a lock or a borrow while they call it.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::task::Waker;

use crate::steps::step;

/// The state of a channel.
///
/// Invariant: `queue`, granted waiters and permits together are no more than `capacity`, and no waiter is without a
/// grant while there is capacity.
pub struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    /// Slots that are reserved and not used yet.
    n_permits: usize,
    n_senders: usize,
    closed: bool,
    receiver: Option<Waker>,
    /// Senders that wait for capacity, in the order of their keys.
    ///
    /// One that leaves becomes a blank until it is at either end or blanks prevail, because removing it from the
    /// middle would move the others.
    waiters: VecDeque<Waiter>,
    n_blanks: usize,
    /// The first waiter that may be without a grant. Those before it have one, or have left.
    next_grant: usize,
    n_granted: usize,
    next_key: u64,
}

struct Waiter {
    key: u64,
    place: Place,
}

/// The state of a waiter.
enum Place {
    Waits(Waker),
    Granted,
    Blank,
}

/// Queues above this capacity release their memory when they are empty.
pub(super) const KEPT_LEN: usize = 1_024;

/// Identifies a sender among those that wait for capacity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaiterKey(u64);

/// The result of taking a message.
pub(crate) enum Take<T> {
    /// A message, and the waker of a sender that was granted its slot.
    Message(T, Option<Waker>),
    Empty,
    Closed,
}

/// The result of reserving a slot.
pub(crate) enum Reserved {
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
            n_blanks: 0,
            next_grant: 0,
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

    /// Returns the number of free slots.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity - self.queue.len() - self.n_permits - self.n_granted
    }

    /// Queues a message, for which there must be a slot; returns the receiver's waker, to be woken.
    #[inline]
    pub(crate) fn push(&mut self, message: T) -> Option<Waker> {
        self.queue.push_back(message);
        self.receiver.take()
    }

    /// Reserves a slot for a permit, if one is free.
    pub(crate) fn try_reserve(&mut self) -> Reserved {
        if self.closed {
            return Reserved::Closed;
        }
        if self.capacity() == 0 {
            return Reserved::Full;
        }
        self.n_permits += 1;
        Reserved::Granted
    }

    /// Queues a message in a permit's slot; returns the receiver's waker, to be woken.
    pub(crate) fn push_reserved(&mut self, message: T) -> Option<Waker> {
        self.n_permits -= 1;
        self.push(message)
    }

    /// Releases a permit's slot; returns the wakers to be woken.
    pub(crate) fn release(&mut self) -> [Option<Waker>; 2] {
        self.n_permits -= 1;
        let receiver = if self.is_over() { self.receiver.take() } else { None };
        [receiver, self.grant()]
    }

    /// Adds a sender to the end of those that wait for capacity.
    pub(crate) fn wait(&mut self, waker: Waker) -> WaiterKey {
        let key = self.next_key;
        self.next_key += 1;
        self.waiters.push_back(Waiter { key, place: Place::Waits(waker) });
        WaiterKey(key)
    }

    /// Turns a grant into a permit, or stores `waker` in the place that `key` identifies.
    ///
    /// A waker that is left in `waker` must be dropped outside.
    pub(crate) fn poll_wait(&mut self, key: WaiterKey, waker: &mut Option<Waker>) -> Reserved {
        if self.closed {
            return Reserved::Closed;
        }
        let Some(index) = self.find(key) else { return Reserved::Closed };
        match &mut self.waiters[index].place {
            Place::Waits(place) => {
                if let Some(waker) = waker {
                    mem::swap(place, waker);
                }
                Reserved::Full
            }
            Place::Granted => {
                self.n_permits += 1;
                self.blank(index);
                Reserved::Granted
            }
            Place::Blank => Reserved::Closed,
        }
    }

    /// Removes the sender that `key` identifies; returns a waker to be dropped, and one to be woken because it was
    /// granted the slot instead.
    pub(crate) fn leave(&mut self, key: WaiterKey) -> (Option<Waker>, Option<Waker>) {
        let Some(index) = self.find(key) else { return (None, None) };
        match self.blank(index) {
            Place::Waits(waker) => (Some(waker), None),
            Place::Granted => (None, self.grant()),
            Place::Blank => (None, None),
        }
    }

    fn find(&self, key: WaiterKey) -> Option<usize> {
        self.waiters
            .binary_search_by(|waiter| {
                step();
                waiter.key.cmp(&key.0)
            })
            .ok()
    }

    /// Turns a waiter into a blank, and returns its former state.
    fn blank(&mut self, index: usize) -> Place {
        step();
        let place = mem::replace(&mut self.waiters[index].place, Place::Blank);
        self.n_blanks += 1;
        if let Place::Granted = place {
            self.n_granted -= 1;
        }
        while self.waiters.back().is_some_and(|waiter| matches!(waiter.place, Place::Blank)) {
            step();
            self.waiters.pop_back();
            self.n_blanks -= 1;
        }
        while self.waiters.front().is_some_and(|waiter| matches!(waiter.place, Place::Blank)) {
            step();
            self.waiters.pop_front();
            self.n_blanks -= 1;
            self.next_grant = self.next_grant.saturating_sub(1);
        }
        self.next_grant = self.next_grant.min(self.waiters.len());
        if self.n_blanks > self.waiters.len() / 2 + 16 {
            self.waiters.retain(|waiter| {
                step();
                !matches!(waiter.place, Place::Blank)
            });
            self.n_blanks = 0;
            // Only granted waiters are left before it.
            self.next_grant = self.n_granted;
        }
        trim(&mut self.waiters);
        place
    }

    /// Grants a slot that has become free to the sender that has waited longest; returns its waker.
    #[inline]
    fn grant(&mut self) -> Option<Waker> {
        if self.next_grant == self.waiters.len() || self.capacity() == 0 {
            return None;
        }
        self.grant_next()
    }

    fn grant_next(&mut self) -> Option<Waker> {
        while let Some(waiter) = self.waiters.get_mut(self.next_grant) {
            step();
            self.next_grant += 1;
            if let Place::Waits(_) = waiter.place
                && let Place::Waits(waker) = mem::replace(&mut waiter.place, Place::Granted)
            {
                self.n_granted += 1;
                return Some(waker);
            }
        }
        None
    }

    /// Takes the first message. An empty queue releases the memory of a burst.
    #[inline]
    pub(crate) fn take(&mut self) -> Take<T> {
        match self.queue.pop_front() {
            Some(message) => Take::Message(message, self.grant()),
            None => {
                trim(&mut self.queue);
                if self.is_over() { Take::Closed } else { Take::Empty }
            }
        }
    }

    /// Swaps all messages for an empty queue. Only in unbounded channels.
    #[inline]
    pub(crate) fn swap(&mut self, batch: &mut VecDeque<T>) {
        debug_assert!(!self.is_bounded() && batch.is_empty());
        mem::swap(&mut self.queue, batch);
    }

    /// Stores the receiver's waker; returns the former one, to be dropped outside.
    #[inline]
    pub(crate) fn set_receiver(&mut self, waker: Waker) -> Option<Waker> {
        self.receiver.replace(waker)
    }

    /// Reports whether no further message can be sent.
    fn is_over(&self) -> bool {
        self.n_senders == 0 || self.closed && self.n_permits == 0
    }

    pub(crate) fn add_sender(&mut self) {
        self.n_senders += 1;
    }

    /// Removes a sender; if it was the last one, returns the receiver's waker, to be woken.
    pub(crate) fn remove_sender(&mut self) -> Option<Waker> {
        self.n_senders -= 1;
        if self.n_senders == 0 { self.receiver.take() } else { None }
    }

    /// Closes the channel; returns the wakers of all senders that wait for capacity, to be woken.
    pub(crate) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        (self.n_granted, self.next_grant, self.n_blanks) = (0, 0, 0);
        let wakers =
            mem::take(&mut self.waiters).into_iter().filter_map(|waiter| match waiter.place {
                Place::Waits(waker) => Some(waker),
                Place::Granted | Place::Blank => None,
            });
        wakers.collect()
    }

    /// Takes all messages, to be dropped outside.
    pub(crate) fn empty(&mut self) -> VecDeque<T> {
        mem::take(&mut self.queue)
    }
}

/// Releases the memory of an empty queue that has been long.
pub(super) fn trim<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > KEPT_LEN && queue.is_empty() {
        *queue = VecDeque::new();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::steps::count_steps;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    #[test]
    fn a_slot_is_granted_to_the_sender_that_has_waited_longest_whichever_leaves() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut state = State::new(4);
        // By key: whether it has a grant.
        let mut model = BTreeMap::new();
        for _ in 0..8_000 {
            let known = model.keys().nth(random.usize(..=model.len())).copied();
            match (random.u8(..8), known) {
                (0..3, _) => match state.try_reserve() {
                    Reserved::Granted => drop(state.push_reserved(())),
                    Reserved::Full => drop(model.insert(state.wait(waker()).0, false)),
                    Reserved::Closed => unreachable!("nothing closes it"),
                },
                (3, Some(key)) => {
                    let is_granted = model.remove(&key).unwrap();
                    let (own, next) = state.leave(WaiterKey(key));
                    assert_eq!(own.is_some(), !is_granted);
                    let waits = model.values_mut().find(|is_granted| !**is_granted);
                    assert_eq!(next.is_some(), is_granted && waits.is_some());
                    if is_granted && let Some(waits) = waits {
                        *waits = true;
                    }
                }
                (4 | 5, Some(key)) => match state.poll_wait(WaiterKey(key), &mut Some(waker())) {
                    Reserved::Granted => {
                        assert_eq!(model.remove(&key), Some(true));
                        drop(state.push_reserved(()));
                    }
                    _ => assert!(!model[&key]),
                },
                _ => {
                    let Take::Message((), next) = state.take() else { continue };
                    let waits = model.values_mut().find(|is_granted| !**is_granted);
                    assert_eq!(next.is_some(), waits.is_some());
                    if let Some(waits) = waits {
                        *waits = true;
                    }
                }
            }
            assert_eq!(state.n_granted, model.values().filter(|is_granted| **is_granted).count());
            assert_eq!(state.waiters.len() - state.n_blanks, model.len());
            assert!(state.n_blanks <= state.waiters.len() / 2 + 16);
        }
    }

    #[test]
    fn a_sender_that_leaves_costs_as_much_among_100_000_as_among_100() {
        let steps_among = |n: usize| {
            let mut state = State::<()>::new(1);
            assert!(matches!(state.try_reserve(), Reserved::Granted));
            let keys: Vec<_> = (0..n).map(|_| state.wait(waker())).collect();
            // From the middle to both ends, so that nothing leaves from an end before the last.
            count_steps(|| {
                for i in 0..n / 2 {
                    state.leave(keys[n / 2 + i]);
                    state.leave(keys[n / 2 - 1 - i]);
                }
                assert_eq!(state.waiters.capacity(), 0);
            })
        };
        let (few, many) = (steps_among(2_048), steps_among(131_072));
        // The search takes a few steps more among more.
        assert!(few <= 2_048 * 16, "{few} steps among 2,048");
        assert!(many <= 131_072 * 22, "{many} steps among 131,072");
    }
}
