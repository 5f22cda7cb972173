//! The sides that send: one for each kind of channel, and the permit to send one message.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::mem;
use std::task::{Context, Poll, ready};

use super::error::{SendError, TrySendError};
use super::state::{Room, Shared, Threads, WaiterKey};
use crate::inspect::notes::Notes;
use crate::running::note;
use crate::running::poll_proceed;
use crate::tasks::wakers::{clone_of, drop_of, wake_of};

/// Sends into a bounded channel. Clone it to send from many places.
pub struct Sender<T, S: Shared<T> = Threads<T>> {
    shared: S,
    message: PhantomData<fn(T)>,
}

impl<T, S: Shared<T>> Sender<T, S> {
    pub(super) fn new(shared: S) -> Sender<T, S> {
        Sender { shared, message: PhantomData }
    }

    /// Sends a message, as soon as there is room for it.
    ///
    /// # Errors
    /// If nobody receives any more; the message comes back.
    ///
    /// # Cancel safety
    /// A message whose `send` is dropped before it is ready was not sent, and is dropped with the
    /// future. [`reserve`](Sender::reserve) waits for room without giving the message away.
    pub async fn send(&self, message: T) -> Result<(), SendError<T>> {
        match self.reserve().await {
            Ok(permit) => {
                permit.send(message);
                Ok(())
            }
            Err(SendError(())) => Err(SendError(message)),
        }
    }

    /// Waits for room for one message, and keeps it until the permit is used or dropped.
    ///
    /// # Errors
    /// If nobody receives any more.
    ///
    /// # Cancel safety
    /// Nothing is lost but the place among those that wait; room that was already granted goes
    /// to the next.
    pub async fn reserve(&self) -> Result<Permit<'_, T, S>, SendError<()>> {
        let mut reserve = Reserve { sender: self, key: None };
        poll_fn(|cx| reserve.poll(cx)).await
    }

    /// Sends a message if there is room at once.
    ///
    /// # Errors
    /// If there is none, or nobody receives any more; the message comes back.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut message = Some(message);
        let sent = self.shared.with(|state| match state.try_reserve() {
            Room::Granted => Ok(message.take().and_then(|message| state.push_reserved(message))),
            refused => Err(refused),
        });
        match (sent, message) {
            (Ok(receiver), _) => {
                if let Some(receiver) = receiver {
                    wake_of(receiver);
                }
                Ok(())
            }
            (Err(Room::Closed), Some(message)) => Err(TrySendError::Closed(message)),
            (Err(_), Some(message)) => Err(TrySendError::Full(message)),
            (Err(_), None) => unreachable!("a refused message stays"),
        }
    }

    /// Takes room for one message if there is some at once.
    ///
    /// # Errors
    /// If there is none, or nobody receives any more.
    pub fn try_reserve(&self) -> Result<Permit<'_, T, S>, TrySendError<()>> {
        match self.shared.with(|state| state.try_reserve()) {
            Room::Granted => Ok(Permit { sender: self }),
            Room::Full => Err(TrySendError::Full(())),
            Room::Closed => Err(TrySendError::Closed(())),
        }
    }

    /// Returns how many messages there is room for at present.
    pub fn capacity(&self) -> usize {
        self.shared.with(|state| state.capacity())
    }

    /// Returns how many messages the channel holds at most.
    pub fn max_capacity(&self) -> usize {
        self.shared.with(|state| state.max_capacity())
    }

    /// Reports whether nobody receives any more.
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state| state.is_closed())
    }
}

impl<T, S: Shared<T>> Clone for Sender<T, S> {
    fn clone(&self) -> Sender<T, S> {
        self.shared.with(|state| state.add_sender());
        Sender::new(self.shared.clone())
    }
}

impl<T, S: Shared<T>> Drop for Sender<T, S> {
    fn drop(&mut self) {
        if let Some(receiver) = self.shared.with(|state| state.remove_sender()) {
            wake_of(receiver);
        }
    }
}

impl<T, S: Shared<T>> fmt::Debug for Sender<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// A sender's place among those that wait for room.
struct Reserve<'a, T, S: Shared<T>> {
    sender: &'a Sender<T, S>,
    /// Set while it waits.
    key: Option<WaiterKey>,
}

impl<'a, T, S: Shared<T>> Reserve<'a, T, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit<'a, T, S>, SendError<()>>> {
        ready!(poll_proceed(cx));
        // Foreign wakers are cloned before the lock is taken, and dropped after it is released.
        let mut waker = Some(clone_of(cx.waker()));
        let room = self.sender.shared.with(|state| match self.key {
            Some(key) => state.poll_wait(key, &mut waker),
            None => {
                let room = state.try_reserve();
                if matches!(room, Room::Full) {
                    self.key = waker.take().map(|waker| state.wait(waker));
                }
                room
            }
        });
        drop_of(waker);
        match room {
            Room::Full => {
                note(if S::IS_LOCKED { Notes::ROOM } else { Notes::LOCAL_ROOM });
                Poll::Pending
            }
            Room::Granted => {
                self.key = None;
                Poll::Ready(Ok(Permit { sender: self.sender }))
            }
            Room::Closed => {
                self.key = None;
                Poll::Ready(Err(SendError(())))
            }
        }
    }
}

impl<T, S: Shared<T>> Drop for Reserve<'_, T, S> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let (own, next) = self.sender.shared.with(|state| state.leave(key));
        drop_of(own);
        if let Some(next) = next {
            wake_of(next);
        }
    }
}

/// Holds room for one message. Made by [`Sender::reserve`]; dropping it gives the room back.
#[must_use = "a permit that is dropped sends nothing"]
pub struct Permit<'a, T, S: Shared<T> = Threads<T>> {
    sender: &'a Sender<T, S>,
}

impl<T, S: Shared<T>> Permit<'_, T, S> {
    /// Sends a message into the room that was kept.
    ///
    /// It arrives even if the receiver was closed meanwhile, unless it was dropped.
    pub fn send(self, message: T) {
        let receiver = self.sender.shared.with(|state| state.push_reserved(message));
        mem::forget(self);
        if let Some(receiver) = receiver {
            wake_of(receiver);
        }
    }
}

impl<T, S: Shared<T>> Drop for Permit<'_, T, S> {
    fn drop(&mut self) {
        for waker in self.sender.shared.with(|state| state.release()).into_iter().flatten() {
            wake_of(waker);
        }
    }
}

impl<T, S: Shared<T>> fmt::Debug for Permit<'_, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// Sends into an unbounded channel. Clone it to send from many places.
pub struct UnboundedSender<T, S: Shared<T> = Threads<T>> {
    shared: S,
    message: PhantomData<fn(T)>,
}

impl<T, S: Shared<T>> UnboundedSender<T, S> {
    pub(super) fn new(shared: S) -> UnboundedSender<T, S> {
        UnboundedSender { shared, message: PhantomData }
    }

    /// Sends a message, at once and from anywhere.
    ///
    /// # Errors
    /// If nobody receives any more; the message comes back.
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

    /// Reports whether nobody receives any more.
    pub fn is_closed(&self) -> bool {
        self.shared.with(|state| state.is_closed())
    }
}

impl<T, S: Shared<T>> Clone for UnboundedSender<T, S> {
    fn clone(&self) -> UnboundedSender<T, S> {
        self.shared.with(|state| state.add_sender());
        UnboundedSender::new(self.shared.clone())
    }
}

impl<T, S: Shared<T>> Drop for UnboundedSender<T, S> {
    fn drop(&mut self) {
        if let Some(receiver) = self.shared.with(|state| state.remove_sender()) {
            wake_of(receiver);
        }
    }
}

impl<T, S: Shared<T>> fmt::Debug for UnboundedSender<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundedSender").finish_non_exhaustive()
    }
}
