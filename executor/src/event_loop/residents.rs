//! The loops that live on a thread, so that their handles reach them while they do not run.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};

use crate::event_loop::EventLoop;
use crate::raw::waker::within;

/// The loops of a thread, by number.
type Residents = RefCell<Vec<(u16, Weak<EventLoop>)>>;

thread_local! {
    /// Without a destructor, so that it is there until the thread is gone: a runtime may
    /// be dropped by the destructor of another thread-local.
    static RESIDENTS: ManuallyDrop<Residents> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Notes that a loop lives on this thread.
pub(crate) fn add(event_loop: &Rc<EventLoop>) {
    let resident = (event_loop.number(), Rc::downgrade(event_loop));
    RESIDENTS.with(|residents| residents.borrow_mut().push(resident));
}

/// Notes that a loop of this thread has ended.
pub(crate) fn remove(event_loop: &Rc<EventLoop>) {
    RESIDENTS.with(|residents| {
        let mut residents = residents.borrow_mut();
        if let Some(index) =
            residents.iter().position(|(_, other)| other.as_ptr() == Rc::as_ptr(event_loop))
        {
            residents.swap_remove(index);
        }
        if residents.is_empty() {
            *residents = Vec::new();
        }
    });
}

/// Calls `f` with the loop of this number as the current one, if it lives on this thread.
#[cold]
pub(crate) fn visit<R>(number: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    // Counted, since `f` may drop the runtime; and looked up before, since it may make one.
    let event_loop = RESIDENTS.with(|residents| {
        let residents = residents.borrow();
        let (_, event_loop) = residents.iter().find(|(other, _)| *other == number)?;
        event_loop.upgrade()
    })?;
    Some(event_loop.announcing(|| within(&event_loop, || f(&event_loop))))
}
