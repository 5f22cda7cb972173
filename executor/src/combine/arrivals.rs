//! Where the tasks of a set leave their outputs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use crate::JoinError;
use crate::catch::quietly;
use crate::inspect::notes::Notes;
use crate::raw::pair::Pair;
use crate::running::note;
use crate::running::poll_outcome;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

/// The outputs of a set's tasks, in the order of completion.
pub(super) struct Arrivals<T> {
    queue: RefCell<VecDeque<Arrival<T>>>,
    /// The task that waits for the next output.
    waker: Cell<Option<Waker>>,
    /// Set when no output will be taken from now on.
    is_closed: Cell<bool>,
    /// Drops a queued output: [`drop_deep`](crate::join::deep_drop::drop_deep), since an output may own
    /// another set.
    ///
    /// A pointer, because destructors do not know that `T` is `'static`.
    drop_arrival: fn(Arrival<T>),
}

/// An output, with the number of its task.
pub(super) type Arrival<T> = (usize, Result<T, JoinError>);

/// Queues above this capacity release their memory when they are empty.
const KEPT_LEN: usize = 1_024;

impl<T> Arrivals<T> {
    pub(super) fn new(drop_arrival: fn(Arrival<T>)) -> Rc<Arrivals<T>> {
        Rc::new(Arrivals {
            queue: RefCell::default(),
            waker: Cell::default(),
            is_closed: Cell::new(false),
            drop_arrival,
        })
    }

    /// Returns an empty queue of the same kind.
    pub(super) fn new_like(&self) -> Rc<Arrivals<T>> {
        Arrivals::new(self.drop_arrival)
    }

    fn push(&self, number: usize, outcome: Result<T, JoinError>) {
        if self.is_closed.get() {
            return quietly(|| drop(outcome));
        }
        self.queue.borrow_mut().push_back((number, outcome));
        if let Some(waker) = self.waker.take() {
            wake_of(waker);
        }
    }

    /// Registers `cx` to be woken by the next arrival.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        let replaced = self.waker.replace(Some(clone_of(cx.waker())));
        drop_of(replaced);
        note(Notes::CHILDREN);
    }

    /// Reports whether no output is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.borrow().is_empty()
    }

    pub(super) fn pop(&self) -> Option<Arrival<T>> {
        let mut queue = self.queue.borrow_mut();
        let arrival = queue.pop_front()?;
        if queue.is_empty() && queue.capacity() > KEPT_LEN {
            *queue = VecDeque::new();
        }
        Some(arrival)
    }

    /// Drops the queued outputs and all that arrive later.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        // Outside the borrow.
        let arrived = self.queue.take();
        // One by one, so that each panic of a destructor is caught: two in one drop would abort the process.
        arrived.into_iter().for_each(self.drop_arrival);
    }
}

/// Queues the outcome of one task when it is dropped: with the task, if that does not complete.
pub(super) struct Announce<T> {
    number: usize,
    arrivals: Rc<Arrivals<T>>,
    outcome: Option<Result<T, JoinError>>,
}

impl<T> Announce<T> {
    pub(super) fn new(number: usize, arrivals: Rc<Arrivals<T>>) -> Announce<T> {
        Announce { number, arrivals, outcome: None }
    }

    /// Polls `future` with `poll` until that is ready or panics, and queues the outcome.
    pub(super) fn run<F>(
        self,
        future: F,
        mut poll: impl FnMut(Pin<&mut F>, &mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = ()> {
        Pair::new(Some(future), (), Some(self), move |future, _, announce, cx| {
            let outcome = ready!(poll_outcome(future, |future| poll(future, cx)));
            if let Some(mut announce) = announce.take() {
                announce.outcome = Some(outcome);
            }
            Poll::Ready(())
        })
    }
}

impl<T> Drop for Announce<T> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| Err(JoinError::cancelled()));
        self.arrivals.push(self.number, outcome);
    }
}
