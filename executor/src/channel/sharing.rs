//! The two ways in which the sides of a channel share its state.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::state::State;
use crate::sync::{Arc, Mutex};

/// How the sides of a channel share its state: [`Shared`] or [`Local`](super::local::Local).
///
/// This trait is sealed.
pub trait Sharing<T>: Clone {
    #[doc(hidden)]
    const IS_LOCKED: bool;

    #[doc(hidden)]
    fn new(state: State<T>) -> Self;

    #[doc(hidden)]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R;
}

/// Shares a channel between threads, by a lock.
pub struct Shared<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Sharing<T> for Shared<T> {
    const IS_LOCKED: bool = true;

    fn new(state: State<T>) -> Shared<T> {
        Shared(Arc::new(Mutex::new(state)))
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut State<T>) -> R) -> R {
        // Nothing panics while the lock is held.
        f(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// Shares a channel within one thread, without a lock.
pub struct Local<T>(Rc<RefCell<State<T>>>);

impl<T> Clone for Local<T> {
    fn clone(&self) -> Local<T> {
        Local(Rc::clone(&self.0))
    }
}

impl<T> Sharing<T> for Local<T> {
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
