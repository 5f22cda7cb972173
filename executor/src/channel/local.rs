//! The same channels for tasks of one thread: no lock, no atomic, and messages need not be `Send`.
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

pub use super::state::Local;
use super::state::{Shared, State};

/// Sends into a bounded channel of one thread.
pub type Sender<T> = super::Sender<T, Local<T>>;

/// Sends into an unbounded channel of one thread.
pub type UnboundedSender<T> = super::UnboundedSender<T, Local<T>>;

/// Receives from a channel of one thread.
pub type Receiver<T> = super::Receiver<T, Local<T>>;

/// Makes a channel that holds up to `capacity` messages.
///
/// # Panics
/// If `capacity` is zero.
#[track_caller]
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a channel needs room for one message at least");
    let shared = Local::new(State::new(capacity));
    (super::Sender::new(shared.clone()), super::Receiver::new(shared))
}

/// Makes a channel that holds as many messages as memory does.
pub fn unbounded<T>() -> (UnboundedSender<T>, Receiver<T>) {
    let shared = Local::new(State::new(usize::MAX));
    (super::UnboundedSender::new(shared.clone()), super::Receiver::new(shared))
}
