//! Multi-producer, single-consumer channels, bounded or unbounded.
//!
//! [`bounded`] and [`unbounded`] create channels between tasks on any loop, tasks of other executors and plain
//! threads. They take a lock for each message that is sent, and for each batch of messages that is received. The
//! channels in [`local`] connect tasks of one thread, and take none.
//!
//! Messages arrive in the order in which they were sent. Senders that wait for capacity get it in the order in which
//! they started to wait.
//!
//! # Examples
//! ```
//! # polyloop::run(async {
//! use polyloop::{channel, spawn};
//!
//! let (sender, mut receiver) = channel::bounded(2);
//! let producer = spawn(async move {
//!     for i in 0..10 {
//!         sender.send(i).await.unwrap();
//!     }
//! });
//! let mut sum = 0;
//! while let Some(i) = receiver.recv().await {
//!     sum += i;
//! }
//! assert_eq!(sum, 45);
//! producer.await.unwrap();
//! # }).unwrap();
//! ```

mod state;

mod sharing;

mod sender;

mod receiver;

pub mod local;

mod error;

pub use error::{SendError, TryRecvError, TrySendError};
pub use receiver::Receiver;
pub use sender::{Permit, Sender, UnboundedSender};
pub use sharing::{Shared, Sharing};

use state::State;

/// Creates a channel that holds up to `capacity` messages.
///
/// A sender waits while the channel is full.
///
/// # Panics
/// Panics if `capacity` is zero.
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs capacity for one message at least");
    let shared = Shared::new(State::new(capacity));
    (Sender::new(shared.clone()), Receiver::new(shared))
}

/// Creates a channel that is not bounded.
///
/// Sending never waits. If messages are sent faster than they are received, the channel grows until memory is
/// exhausted; prefer [`bounded`] where that can happen.
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let shared = Shared::new(State::new(usize::MAX));
    (UnboundedSender::new(shared.clone()), Receiver::new(shared))
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::future::block_on;
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_send_against_a_recv_is_not_lost() {
        loom::model(|| {
            let (sender, mut receiver) = unbounded();
            let thread = thread::spawn(move || {
                sender.send(1).unwrap();
                sender.send(2).unwrap();
            });
            block_on(async {
                assert_eq!(receiver.recv().await, Some(1));
                assert_eq!(receiver.recv().await, Some(2));
                assert_eq!(receiver.recv().await, None);
            });
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_two_senders_that_wait_for_capacity_get_it() {
        loom::model(|| {
            let (sender, mut receiver) = bounded(1);
            let second = sender.clone();
            let threads = [sender, second].map(|sender| {
                thread::spawn(move || block_on(async { sender.send(1).await.unwrap() }))
            });
            block_on(async {
                let mut sum = 0;
                while let Some(message) = receiver.recv().await {
                    sum += message;
                }
                assert_eq!(sum, 2);
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn loom_a_send_against_the_end_of_the_receiver_is_refused_or_dropped() {
        loom::model(|| {
            let (sender, receiver) = bounded(1);
            let thread = thread::spawn(move || {
                block_on(async {
                    let first = sender.send(1).await;
                    let second = sender.send(2).await;
                    assert!(second.is_err(), "there was capacity for one message: {first:?}");
                });
            });
            drop(receiver);
            thread.join().unwrap();
        });
    }

    #[test]
    fn loom_a_permit_that_goes_against_close_lets_the_receiver_end() {
        loom::model(|| {
            let (sender, mut receiver) = bounded::<()>(1);
            let thread = thread::spawn(move || {
                if let Ok(permit) = sender.try_reserve() {
                    drop(permit);
                }
                sender
            });
            receiver.close();
            block_on(async { assert_eq!(receiver.recv().await, None) });
            drop(thread.join().unwrap());
        });
    }
}
