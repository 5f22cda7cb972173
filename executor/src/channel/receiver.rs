//! The receiving half of channels.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::error::TryRecvError;
use super::sharing::{Shared, Sharing};
use super::state::{Take, trim};
use crate::inspect::notes::Notes;
use crate::running::note;
use crate::running::poll_proceed;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

/// The receiving half of a channel. Dropping it closes the channel and drops the messages that are left.
///
/// A message may own the receiver of another channel, whose message owns a third one, and so on. Dropping such a
/// chain takes stack space for each link, as with nested boxes. Take a chain of thousands of links apart before it
/// is dropped:
///
/// ```
/// use polyloop::channel::{self, Receiver};
///
/// struct Link(Receiver<Link>);
///
/// let (_, mut chain) = channel::unbounded();
/// for _ in 0..100_000 {
///     let (sender, receiver) = channel::unbounded();
///     assert!(sender.send(Link(chain)).is_ok());
///     chain = receiver;
/// }
/// while let Ok(Link(next)) = chain.try_recv() {
///     chain = next;
/// }
/// ```
pub struct Receiver<T, S: Sharing<T> = Shared<T>> {
    shared: S,
    /// Messages that were taken out of the shared queue in one batch, under one lock.
    ///
    /// Invariant: empty if the channel is bounded, because the capacity counts messages in the shared queue.
    batch: VecDeque<T>,
    swaps: bool,
}

impl<T, S: Sharing<T>> Receiver<T, S> {
    pub(super) fn new(shared: S) -> Receiver<T, S> {
        // Without a lock, batches save nothing.
        let swaps = S::IS_LOCKED && shared.with(|state| !state.is_bounded());
        Receiver { shared, batch: VecDeque::new(), swaps }
    }

    /// Waits for the next message, and returns `None` if no further message can arrive.
    ///
    /// That is the case when the channel is empty, and all senders were dropped or [`close`](Receiver::close) was
    /// called.
    ///
    /// # Cancel safety
    /// Cancel safe: a message that was not returned is returned by the next call.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next message, as [`recv`](Receiver::recv) does.
    #[inline]
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        ready!(poll_proceed(cx));
        if S::IS_LOCKED
            && let Some(message) = self.pop()
        {
            return Poll::Ready(Some(message));
        }
        // A foreign waker is cloned before the lock is taken, and dropped after it is released.
        let mut waker = Some(clone_of(cx.waker()));
        let (batch, swaps) = (&mut self.batch, self.swaps);
        let taken = self.shared.with(|state| {
            let taken = state.take();
            match taken {
                Take::Empty => waker = waker.take().and_then(|waker| state.set_receiver(waker)),
                Take::Message(..) if swaps => state.swap(batch),
                Take::Message(..) | Take::Closed => {}
            }
            taken
        });
        drop_of(waker);
        match taken {
            Take::Message(message, sender) => {
                if let Some(sender) = sender {
                    wake_of(sender);
                }
                Poll::Ready(Some(message))
            }
            Take::Empty => {
                note(if S::IS_LOCKED { Notes::MESSAGE } else { Notes::LOCAL_MESSAGE });
                Poll::Pending
            }
            Take::Closed => Poll::Ready(None),
        }
    }

    /// Returns the next message if the channel is not empty.
    ///
    /// # Errors
    /// Returns [`TryRecvError::Empty`] if the channel is empty, and [`TryRecvError::Closed`] if, in addition, no
    /// further message can arrive.
    pub fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if let Some(message) = self.pop() {
            return Ok(message);
        }
        match self.shared.with(|state| state.take()) {
            Take::Message(message, sender) => {
                if let Some(sender) = sender {
                    wake_of(sender);
                }
                Ok(message)
            }
            Take::Empty => Err(TryRecvError::Empty),
            Take::Closed => Err(TryRecvError::Closed),
        }
    }

    /// Closes the channel. Messages that were sent before, or that have a permit, can still be received.
    pub fn close(&mut self) {
        for sender in self.shared.with(|state| state.close()) {
            wake_of(sender);
        }
    }

    /// Reports whether [`close`](Receiver::close) was called.
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state| state.is_closed())
    }

    /// Returns the number of messages in the channel.
    pub fn len(&self) -> usize {
        self.batch.len() + self.shared.with(|state| state.len())
    }

    /// Reports whether the channel is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first message of the batch. An empty batch releases the memory of a burst.
    #[inline]
    fn pop(&mut self) -> Option<T> {
        let message = self.batch.pop_front();
        if message.is_none() {
            trim(&mut self.batch);
        }
        message
    }
}

impl<T, S: Sharing<T>> Drop for Receiver<T, S> {
    fn drop(&mut self) {
        self.close();
        let unread = self.shared.with(|state| state.empty());
        drop(unread);
    }
}

impl<T, S: Sharing<T>> Unpin for Receiver<T, S> {}

impl<T, S: Sharing<T>> Stream for Receiver<T, S> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.poll_recv(cx)
    }
}

impl<T, S: Sharing<T>> fmt::Debug for Receiver<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
