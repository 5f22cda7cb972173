//! Channels between tasks of one thread: without locks and atomics, for messages that need not be `Send`.
//!
//! # Examples
//! ```
//! # polyloop::run(async {
//! use std::rc::Rc;
//!
//! use polyloop::channel::local;
//!
//! let (sender, mut receiver) = local::unbounded();
//! sender.send(Rc::new(7)).unwrap();
//! assert_eq!(receiver.recv().await.as_deref(), Some(&7));
//! # }).unwrap();
//! ```

pub use super::sharing::Local;
use super::sharing::Sharing;
use super::state::State;

/// The sending half of a bounded channel within one thread.
pub type Sender<T> = super::Sender<T, Local<T>>;

/// The sending half of an unbounded channel within one thread.
pub type UnboundedSender<T> = super::UnboundedSender<T, Local<T>>;

/// The receiving half of a channel within one thread.
pub type Receiver<T> = super::Receiver<T, Local<T>>;

/// Creates a channel within one thread that holds up to `capacity` messages.
///
/// # Panics
/// Panics if `capacity` is zero.
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs capacity for one message at least");
    let shared = Local::new(State::new(capacity));
    (super::Sender::new(shared.clone()), super::Receiver::new(shared))
}

/// Creates a channel within one thread that is not bounded.
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let shared = Local::new(State::new(usize::MAX));
    (super::UnboundedSender::new(shared.clone()), super::Receiver::new(shared))
}
