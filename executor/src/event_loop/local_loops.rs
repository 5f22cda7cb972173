//! The loops of a thread, so that handles reach them while they are not running.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};

use crate::event_loop::EventLoop;
use crate::raw::current::{current, within};

/// The loops of a thread, by number.
type LocalLoops = RefCell<Vec<(u16, Weak<EventLoop>)>>;

thread_local! {
    /// Without a destructor, so that it is accessible until the thread ends: the destructor of another thread-local may
    /// drop a runtime.
    static LOCAL_LOOPS: ManuallyDrop<LocalLoops> =
        const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Adds a loop to this thread's list.
pub(crate) fn add(event_loop: &Rc<EventLoop>) {
    let local = (event_loop.number(), Rc::downgrade(event_loop));
    LOCAL_LOOPS.with(|loops| loops.borrow_mut().push(local));
}

/// Removes a loop that has ended.
pub(crate) fn remove(event_loop: &Rc<EventLoop>) {
    LOCAL_LOOPS.with(|loops| {
        let mut loops = loops.borrow_mut();
        if let Some(index) =
            loops.iter().position(|(_, other)| other.as_ptr() == Rc::as_ptr(event_loop))
        {
            loops.swap_remove(index);
        }
        if loops.is_empty() {
            *loops = Vec::new();
        }
    });
}

/// Calls `f` with the loop of this number, if this is its thread.
///
/// It may be between two turns, or below another loop on the stack. It is the current loop while `f` runs.
#[inline]
pub(crate) fn if_local<R>(owner: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    if current(|event_loop| event_loop.number() == owner) == Some(true) {
        return current(f);
    }
    visit(owner, f)
}

/// Calls `f` with the loop of this number, if it is the current one, or there is none and this is its
/// thread.
#[inline]
pub(crate) fn if_current_or_idle<R>(owner: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    let mut f = Some(f);
    let here =
        current(
            |event_loop| {
                if event_loop.number() == owner { f.take().map(|f| f(event_loop)) } else { None }
            },
        );
    match here {
        Some(found) => found,
        None => visit(owner, f?),
    }
}

/// Calls `f` with the loop of this number as the current one, if it belongs to this thread.
#[cold]
fn visit<R>(number: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    // Cloned, because `f` may drop the runtime; looked up first, because `f` may create one.
    let event_loop = LOCAL_LOOPS.with(|loops| {
        let loops = loops.borrow();
        let (_, event_loop) = loops.iter().find(|(other, _)| *other == number)?;
        event_loop.upgrade()
    })?;
    Some(event_loop.announcing(|| within(&event_loop, || f(&event_loop))))
}
