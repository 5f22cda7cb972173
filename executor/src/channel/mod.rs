//! Queues from many tasks to one, with or without a bound.
//!
//! [`bounded`] and [`unbounded`] connect tasks wherever they run, on this loop, another one or
//! under a foreign executor; they take a lock for each message sent and one for each batch
//! received. The same pair in [`local`] stays on one thread and takes none.
//!
//! Messages arrive in the order in which they were sent. Senders that wait for room are served
//! in the order in which they came.
//!
//! # Examples
//! ```
//! # polyloop_executor::run(async {
//! use polyloop_executor::{channel, spawn};
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

mod sender;

mod receiver;

pub mod local;

mod error;

pub use error::{SendError, TryRecvError, TrySendError};
pub use receiver::Receiver;
pub use sender::{Permit, Sender, UnboundedSender};
pub use state::{Shared, Threads};

use state::State;

/// Makes a channel that holds up to `capacity` messages.
///
/// # Panics
/// If `capacity` is zero.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for one message at least");
    let shared = Threads::new(State::new(capacity));
    (Sender::new(shared.clone()), Receiver::new(shared))
}

/// Makes a channel that holds as many messages as memory does.
///
/// A receiver that is slower than its senders makes it grow without end: where that may be,
/// [`bounded`] is the better choice.
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let shared = Threads::new(State::new(usize::MAX));
    (UnboundedSender::new(shared.clone()), Receiver::new(shared))
}
