//! The sending halves of channels, and the permit to send one message.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::mem;
use std::task::{Context, Poll, ready};

use super::error::{SendError, TrySendError};
use super::sharing::{Shared, Sharing};
use super::state::{Reserved, WaiterKey};
use crate::inspect::notes::Notes;
use crate::running::note;
use crate::running::poll_proceed;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

/// The sending half of a [`bounded`](super::bounded) channel. Clone it to send from several tasks.
pub struct Sender<T, S: Sharing<T> = Shared<T>> {
    shared: S,
    message: PhantomData<fn(T)>,
}

impl<T, S: Sharing<T>> Sender<T, S> {
    pub(super) fn new(shared: S) -> Sender<T, S> {
        Sender { shared, message: PhantomData }
    }

    /// Sends a message, waiting until the channel has capacity for it.
    ///
    /// # Errors
    /// Returns the message in a [`SendError`] if the channel is closed.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the message was not sent, and is dropped. To keep the message,
    /// wait for capacity with [`reserve`](Sender::reserve).
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(permit) => {
                permit.send(message);
                Ok(())
            }
            Err(SendError(())) => Err(SendError(message)),
        }
    }

    /// Waits for capacity for one message, and reserves it until the permit is used or dropped.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the channel is closed.
    ///
    /// # Cancel safety
    /// Cancel safe, but the place in the queue of senders is lost. Capacity that was already granted goes to the
    /// next sender.
    pub async fn reserve(&self) -> Result<Permit<'_, T, S>, SendError<()>> {
        let mut reserve = Reserve { sender: self, key: None };
        poll_fn(|cx| reserve.poll(cx)).await
    }

    /// Sends a message if the channel has capacity for it.
    ///
    /// # Errors
    /// Returns the message in a [`TrySendError`] if the channel is full or closed.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(message);
        let sent = self.shared.with(|state| match state.try_reserve() {
            Reserved::Granted => {
                Ok(message.take().and_then(|message| state.push_reserved(message)))
            }
            refused => Err(refused),
        });
        match (sent, message) {
            (Ok(receiver), _) => {
                if let Some(receiver) = receiver {
                    wake_of(receiver);
                }
                Ok(())
            }
            (Err(Reserved::Closed), Some(message)) => Err(TrySendError::Closed(message)),
            (Err(_), Some(message)) => Err(TrySendError::Full(message)),
            (Err(_), None) => unreachable!("a refused message stays"),
        }
    }

    /// Reserves capacity for one message if the channel has it.
    ///
    /// # Errors
    /// Returns a [`TrySendError`] if the channel is full or closed.
    pub fn try_reserve(&self) -> Result<Permit<'_, T, S>, TrySendError<()>> {
        match self.shared.with(|state| state.try_reserve()) {
            Reserved::Granted => Ok(Permit { sender: self }),
            Reserved::Full => Err(TrySendError::Full(())),
            Reserved::Closed => Err(TrySendError::Closed(())),
        }
    }

    /// Returns how many more messages the channel can hold.
    pub fn capacity(&self) -> usize {
        self.shared.with(|state| state.capacity())
    }

    /// Returns the capacity with which the channel was created.
    pub fn max_capacity(&self) -> usize {
        self.shared.with(|state| state.max_capacity())
    }

    /// Reports whether the channel is closed: its receiver was closed or dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state| state.is_closed())
    }
}

impl<T, S: Sharing<T>> Clone for Sender<T, S> {
    fn clone(&self) -> Sender<T, S> {
        self.shared.with(|state| state.add_sender());
        Sender::new(self.shared.clone())
    }
}

impl<T, S: Sharing<T>> Drop for Sender<T, S> {
    fn drop(&mut self) {
        if let Some(receiver) = self.shared.with(|state| state.remove_sender()) {
            wake_of(receiver);
        }
    }
}

impl<T, S: Sharing<T>> fmt::Debug for Sender<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// A sender that waits for capacity.
struct Reserve<'a, T, S: Sharing<T>> {
    sender: &'a Sender<T, S>,
    /// Identifies the waiting sender in the channel.
    key: Option<WaiterKey>,
}

impl<'a, T, S: Sharing<T>> Reserve<'a, T, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit<'a, T, S>, SendError<()>>> {
        ready!(poll_proceed(cx));
        // Foreign wakers are cloned before the lock is taken, and dropped after it is released.
        let mut waker = Some(clone_of(cx.waker()));
        let reserved = self.sender.shared.with(|state| match self.key {
            Some(key) => state.poll_wait(key, &mut waker),
            None => {
                let reserved = state.try_reserve();
                if matches!(reserved, Reserved::Full) {
                    self.key = waker.take().map(|waker| state.wait(waker));
                }
                reserved
            }
        });
        drop_of(waker);
        match reserved {
            Reserved::Full => {
                note(if S::IS_LOCKED { Notes::ROOM } else { Notes::LOCAL_ROOM });
                Poll::Pending
            }
            Reserved::Granted => {
                self.key = None;
                Poll::Ready(Ok(Permit { sender: self.sender }))
            }
            Reserved::Closed => {
                self.key = None;
                Poll::Ready(Err(SendError(())))
            }
        }
    }
}

impl<T, S: Sharing<T>> Drop for Reserve<'_, T, S> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let (own, next) = self.sender.shared.with(|state| state.leave(key));
        drop_of(own);
        if let Some(next) = next {
            wake_of(next);
        }
    }
}

/// Reserved capacity for one message. Returned by [`Sender::reserve`]; dropping it releases the capacity.
#[must_use = "a permit that is dropped sends nothing"]
pub struct Permit<'a, T, S: Sharing<T> = Shared<T>> {
    sender: &'a Sender<T, S>,
}

impl<T, S: Sharing<T>> Permit<'_, T, S> {
    /// Sends a message with the reserved capacity.
    ///
    /// The message can be received even if the receiver was closed meanwhile, unless the receiver was dropped.
    pub fn send(self, message: T) {
        let receiver = self.sender.shared.with(|state| state.push_reserved(message));
        mem::forget(self);
        if let Some(receiver) = receiver {
            wake_of(receiver);
        }
    }
}

impl<T, S: Sharing<T>> Drop for Permit<'_, T, S> {
    fn drop(&mut self) {
        for waker in self.sender.shared.with(|state| state.release()).into_iter().flatten() {
            wake_of(waker);
        }
    }
}

impl<T, S: Sharing<T>> fmt::Debug for Permit<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// The sending half of an [`unbounded`](super::unbounded) channel. Clone it to send from several tasks.
pub struct UnboundedSender<T, S: Sharing<T> = Shared<T>> {
    shared: S,
    message: PhantomData<fn(T)>,
}

impl<T, S: Sharing<T>> UnboundedSender<T, S> {
    pub(super) fn new(shared: S) -> UnboundedSender<T, S> {
        UnboundedSender { shared, message: PhantomData }
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    /// Returns the message in a [`SendError`] if the channel is closed.
    #[inline]
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut message = Some(message);
        let receiver = self.shared.with(|state| {
            if state.is_closed() {
                return None;
            }
            message.take().and_then(|message| state.push(message))
        });
        if let Some(receiver) = receiver {
            wake_of(receiver);
        }
        match message {
            None => Ok(()),
            Some(refused) => Err(SendError(refused)),
        }
    }

    /// Reports whether the channel is closed: its receiver was closed or dropped.
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state| state.is_closed())
    }
}

impl<T, S: Sharing<T>> Clone for UnboundedSender<T, S> {
    fn clone(&self) -> UnboundedSender<T, S> {
        self.shared.with(|state| state.add_sender());
        UnboundedSender::new(self.shared.clone())
    }
}

impl<T, S: Sharing<T>> Drop for UnboundedSender<T, S> {
    fn drop(&mut self) {
        if let Some(receiver) = self.shared.with(|state| state.remove_sender()) {
            wake_of(receiver);
        }
    }
}

impl<T, S: Sharing<T>> fmt::Debug for UnboundedSender<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundedSender").finish_non_exhaustive()
    }
}
