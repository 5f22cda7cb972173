//! The raw waker, which contains only a task's id.
//!
//! With 64-bit pointers, cloning and dropping it do nothing: no memory is allocated, no reference is counted, and a stale
//! waker finds another generation and wakes no task.

use polyloop_reactor::Token;

use crate::event_loop::mailbox;
use crate::inspect::notes::Notes;
use crate::raw::current::current;

pub(crate) use imp::{clone_own, drop_own, id_of, lend_waker};

/// Wakes the task that `id` names, from any thread.
#[inline]
pub(crate) fn wake(id: Token) {
    // Ids of other loops are never found here, because the owner is part of the id.
    let is_local = current(|event_loop| event_loop.wake(id) || event_loop.number() == id.owner());
    if is_local != Some(true) {
        mailbox::wake(id);
    }
}

/// Records that foreign code has cloned a waker, and may keep it anywhere.
fn note_foreign(id: Token) {
    current(|event_loop| {
        // For a waker of another task, this was recorded before.
        if event_loop.is_current(id) {
            event_loop.note(Notes::FOREIGN);
        }
    });
}

/// Wakers on targets whose pointers hold a packed id.
#[cfg(target_pointer_width = "64")]
mod imp {
    use std::mem::{self, ManuallyDrop};
    use std::ptr;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    use polyloop_reactor::Token;

    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

    /// Called by foreign code only: this crate calls [`clone_own`].
    fn clone(data: *const ()) -> RawWaker {
        super::note_foreign(Token::from_raw(data.addr() as u64));
        RawWaker::new(data, &VTABLE)
    }

    fn wake(data: *const ()) {
        super::wake(Token::from_raw(data.addr() as u64));
    }

    fn drop(_data: *const ()) {}

    /// Creates the waker of the task that `id` names.
    #[inline]
    pub(crate) fn waker_of(id: Token) -> Waker {
        let data = ptr::without_provenance(id.raw() as usize);
        // SAFETY: the functions of `VTABLE` keep the contract of `RawWakerVTable` for any data
        // word: they never dereference it, own nothing, and may be called from any thread.
        unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
    }

    /// Calls `f` with the waker of the task that `id` names.
    #[inline]
    pub(crate) fn lend_waker<R>(id: Token, f: impl FnOnce(&Waker) -> R) -> R {
        // Not dropped: there is nothing to drop, which the compiler cannot know.
        f(&ManuallyDrop::new(waker_of(id)))
    }

    /// Returns the task that `waker` wakes, if it is a waker of this crate.
    #[inline]
    pub(crate) fn id_of(waker: &Waker) -> Option<Token> {
        ptr::eq(waker.vtable(), &VTABLE).then(|| Token::from_raw(waker.data().addr() as u64))
    }

    /// Clones a waker of this crate, without recording that foreign code has one.
    #[inline]
    pub(crate) fn clone_own(_waker: &Waker, id: Token) -> Waker {
        waker_of(id)
    }

    /// Drops a waker of this crate: there is nothing to drop, which the compiler cannot know.
    #[inline]
    pub(crate) fn drop_own(waker: Waker) {
        mem::forget(waker);
    }
}

/// Wakers on targets with smaller pointers: the id is in a shared allocation.
#[cfg(not(target_pointer_width = "64"))]
mod imp {
    use std::ptr;
    use std::sync::Arc;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    use polyloop_reactor::Token;

    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop);

    /// Returns the number that a waker's data word points to.
    ///
    /// # Safety
    /// `data` is that of a waker with `VTABLE`, which lives as long as this call.
    unsafe fn id_at(data: *const ()) -> Token {
        // SAFETY: `waker_of` made the word with `Arc::into_raw`, and every waker owns one count, so
        // the number is there for as long as the waker is. It is never written to.
        unsafe { *data.cast::<Token>() }
    }

    /// Called by foreign code only: this crate calls [`clone_own`].
    fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the waker that is cloned has this vtable, and lives during the call.
        super::note_foreign(unsafe { id_at(data) });
        share(data)
    }

    /// Adds an owner of a waker's id.
    fn share(data: *const ()) -> RawWaker {
        // SAFETY: the word came from `Arc::into_raw`, and the waker that it belongs to owns a count
        // of it during the call.
        unsafe { Arc::increment_strong_count(data.cast::<Token>()) };
        RawWaker::new(data, &VTABLE)
    }

    fn wake(data: *const ()) {
        wake_by_ref(data);
        drop(data);
    }

    fn wake_by_ref(data: *const ()) {
        // SAFETY: the waker has this vtable, and lives during the call.
        super::wake(unsafe { id_at(data) });
    }

    fn drop(data: *const ()) {
        // SAFETY: the word came from `Arc::into_raw`, and the waker that ends here owns one count.
        unsafe { Arc::decrement_strong_count(data.cast::<Token>()) };
    }

    /// Creates the waker of the task that `id` names.
    pub(crate) fn waker_of(id: Token) -> Waker {
        let data = Arc::into_raw(Arc::new(id)).cast();
        // SAFETY: the functions of `VTABLE` keep the contract of `RawWakerVTable` for such a word:
        // each waker owns one count of an atomically counted allocation, which `clone` adds and
        // `wake` and `drop` take away, and `super::wake` may be called from any thread.
        unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
    }

    /// Calls `f` with the waker of the task that `id` names.
    pub(crate) fn lend_waker<R>(id: Token, f: impl FnOnce(&Waker) -> R) -> R {
        f(&waker_of(id))
    }

    /// Returns the task that `waker` wakes, if it is a waker of this crate.
    pub(crate) fn id_of(waker: &Waker) -> Option<Token> {
        // SAFETY: the vtable says that the waker is one of ours, and it lives during the call.
        ptr::eq(waker.vtable(), &VTABLE).then(|| unsafe { id_at(waker.data()) })
    }

    /// Clones a waker of this crate, without recording that foreign code has one.
    pub(crate) fn clone_own(waker: &Waker, _id: Token) -> Waker {
        let raw = share(waker.data());
        // SAFETY: as in `waker_of`; the new waker owns the count that `share` has added.
        unsafe { Waker::from_raw(raw) }
    }

    /// Drops a waker of this crate.
    pub(crate) fn drop_own(waker: Waker) {
        std::mem::drop(waker);
    }
}
