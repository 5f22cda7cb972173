//! The executor's unsafe code: five things that the safe language has no words for.
//!
//! 1. The raw waker, which is a task's number and nothing else: cloning and dropping it do
//!    nothing, nothing is allocated or counted, and a stale one finds another generation.
//! 2. The way from a thread to the loop that runs on it, by a pointer that is only there while
//!    [`within`] is on the stack.
//! 3. The projection from a pinned task to the future inside it.
//! 4. The way of an output to another thread, which its type allows without this code knowing it.
//! 5. The same for an output that has outlived its loop.

use std::cell::Cell;
use std::pin::Pin;
use std::ptr;
use std::task::Waker;

use polyloop_reactor::Token;

use crate::event_loop::EventLoop;
use crate::event_loop::mailbox::{self, Mail};
use crate::event_loop::residents;
use crate::inspect::notes::Notes;
use crate::join::deep_drop::drop_deep;
use crate::join::estate;
use crate::join::packet::{self, Packet};
use crate::sync::Arc;
use crate::tasks::Delivery;
use crate::tasks::stage::{AnyTask, Stage, TaskBox, quietly};
use crate::{JoinError, JoinHandle};

thread_local! {
    /// The loop that runs on this thread, or null.
    ///
    /// Invariant: not null only within [`within`], which borrows the loop for as long.
    static CURRENT: Cell<*const EventLoop> = const { Cell::new(ptr::null()) };
}

/// Calls `f` with `event_loop` as this thread's current loop.
#[inline(always)]
pub(crate) fn within<R>(event_loop: &EventLoop, f: impl FnOnce() -> R) -> R {
    struct Restore(*const EventLoop);

    impl Drop for Restore {
        #[inline(always)]
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }

    let _restore = Restore(CURRENT.replace(event_loop));
    f()
}

/// Calls `f` with the loop that runs on this thread, if there is one.
#[inline]
pub(crate) fn current<R>(f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    let event_loop = CURRENT.get();
    // SAFETY: by the invariant of `CURRENT` the pointer is null, or `within` is further up this
    // thread's stack and borrows the loop until it has restored the pointer. `f` cannot keep the
    // reference, since its lifetime ends with this call.
    let event_loop = unsafe { event_loop.as_ref() };
    event_loop.map(f)
}

/// Calls `f` with the loop of this number, if this is its thread.
///
/// It may be between two turns, or below another loop's on the stack. Then it is the current one for
/// as long as `f` takes.
#[inline]
pub(crate) fn at_home<R>(owner: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    if current(|event_loop| event_loop.number() == owner) == Some(true) {
        return current(f);
    }
    residents::visit(owner, f)
}

/// Calls `f` with the loop of this number, if it is the current one, or there is none and this is its
/// thread.
#[inline]
pub(crate) fn at_home_alone<R>(owner: u16, f: impl FnOnce(&EventLoop) -> R) -> Option<R> {
    let mut f = Some(f);
    let here =
        current(
            |event_loop| {
                if event_loop.number() == owner { f.take().map(|f| f(event_loop)) } else { None }
            },
        );
    match here {
        Some(found) => found,
        None => residents::visit(owner, f?),
    }
}

/// Wakes the task that `id` names, from whatever thread.
#[inline]
pub(crate) fn wake(id: Token) {
    // Numbers of other loops are never found here: the owner is part of the number.
    let here = current(|event_loop| event_loop.wake(id) || event_loop.number() == id.owner());
    if here != Some(true) {
        mailbox::wake(id);
    }
}

/// Returns the task that `waker` wakes, if it is one of the loop `owner`; the waker itself if not.
#[inline]
pub(crate) fn into_id(waker: Waker, owner: u16) -> Result<Token, Waker> {
    match id_of(&waker) {
        Some(id) if id.owner() == owner => {
            drop_own(waker);
            Ok(id)
        }
        _ => Err(waker),
    }
}

/// Drops a waker, without a detour if it is one of ours. The panic of one that is foreign ends here.
#[inline]
pub(crate) fn drop_of(waker: Option<Waker>) {
    match waker {
        Some(waker) if id_of(&waker).is_some() => drop_own(waker),
        None => {}
        foreign => quietly(|| drop(foreign)),
    }
}

/// Wakes, without a detour if the waker is one of ours. The panic of one that is foreign ends here:
/// it must not keep others from being woken, or end the task that happens to wake it.
#[inline]
pub(crate) fn wake_of(waker: Waker) {
    match id_of(&waker) {
        Some(id) => {
            drop_own(waker);
            wake(id);
        }
        None => wake_foreign(waker),
    }
}

#[cold]
fn wake_foreign(waker: Waker) {
    quietly(|| waker.wake());
}

/// Clones a waker, without a detour if it is one of ours.
#[inline]
pub(crate) fn clone_of(waker: &Waker) -> Waker {
    clone_if_own(waker).unwrap_or_else(|| waker.clone())
}

/// Clones a waker if it is one of ours, which runs no code from outside this crate.
#[inline]
pub(crate) fn clone_if_own(waker: &Waker) -> Option<Waker> {
    id_of(waker).map(|id| clone_own(waker, id))
}

/// Lends the future of a pinned task, if it still has one.
pub(crate) fn project<F: Future>(stage: Pin<&mut Stage<F>>) -> Option<Pin<&mut F>> {
    // SAFETY: nothing is moved out of the reference: it is only matched on, below.
    let stage = unsafe { stage.get_unchecked_mut() };
    match stage {
        // SAFETY: the future is pinned with its task: `Stage` has no `Drop` and is not `Unpin`
        // unless `F` is, and no code moves a future out of it. It leaves only when `Pin::set`
        // drops it in place.
        Stage::Future(future) => Some(unsafe { Pin::new_unchecked(future) }),
        Stage::Output(_) | Stage::Empty => None,
    }
}

/// Notes that code outside this crate has cloned a waker, and may keep it anywhere.
fn note_foreign(id: Token) {
    current(|event_loop| {
        // Of another task it was cloned before, and noted then.
        if event_loop.is_current(id) {
            event_loop.note(Notes::FOREIGN);
        }
    });
}

/// The box of a task that has finished and whose loop has ended. It holds the output.
pub(crate) struct Legacy(TaskBox);

// SAFETY: what is sent is a box that holds an output of type `T`, and no future any more. It is
// opened, and dropped, only on behalf of the task's own handle (`inherit`, `renounce`, `Deliver`)
// or on the thread of the task's loop (`renounce_own`). A number names one task for as long as the
// process lives, since slots are retired at their last generation and loop numbers with them, so
// that handle is the `JoinHandle<T>` that `spawn` returned. Where a handle acts there are two cases.
// - `T` is `Send`. Then so is the content.
// - `T` is not `Send`. Then neither is `JoinHandle<T>`, so the handle is on the thread where it was
//   made, which is that of the task's loop: the content has not left its thread. What acts for the
//   handle elsewhere, a `Deliver`, is there only while no such box exists: see there.
// The allocation itself is of the global allocator, and may be freed anywhere.
unsafe impl Send for Legacy {}

/// Keeps the output of a task that has finished, for its handle to find when the loop has ended.
pub(crate) fn leave(id: Token, task: TaskBox) {
    estate::put(id, Legacy(task));
}

/// Takes the output that a task has left when its loop ended.
pub(crate) fn inherit<T: 'static>(
    id: Token,
    _handle: &JoinHandle<T>,
) -> Option<Result<T, JoinError>> {
    let Legacy(mut task) = estate::take(id)?;
    let mut output = None;
    task.as_mut().take_output(&mut output);
    output
}

/// Drops the output that a task has left when its loop ended, since its handle is dropped.
pub(crate) fn renounce<T>(id: Token, _handle: &JoinHandle<T>) {
    renounce_own(id);
}

/// Drops the output that a task of this thread has left.
pub(crate) fn renounce_own(id: Token) {
    if let Some(Legacy(task)) = estate::take(id) {
        drop_deep(task);
    }
}

/// Has the output of the task `id` put into a packet, for a handle that was polled where the task's
/// loop does not run.
///
/// The handle is the proof that `T` is the task's own type and may be here.
pub(crate) fn forward<T: 'static>(id: Token, _handle: &JoinHandle<T>) -> Arc<Packet<T>> {
    /// Fills the packet with the output of the task, here or from what it has left.
    struct Deliver<T: 'static> {
        id: Token,
        /// None once it has done so.
        sender: Option<packet::Sender<T>>,
    }

    // SAFETY: there are two cases.
    // - `T` is `Send`. Then so is everything in here.
    // - `T` is not `Send`. Then neither is `JoinHandle<T>`, so the handle is on the thread where it
    //   was made, which is that of the task's loop, and this was made there too. That loop was then
    //   alive or not.
    //   - If it was alive, it has the mailbox of its number, and cannot end before this thread goes
    //     on. So the letter is read, or dropped when the loop ends, on this thread.
    //   - If it had ended, another loop may get the letter, on another thread. It finds no such
    //     task, since numbers are not used twice: a slot is retired at its last generation, and a
    //     loop begins after all generations of those that had its number. Nor does it find that the
    //     task has left an output: the handle has looked before, and the loop cannot end again. So
    //     no `T` has come or will come into the packet: what is touched there, a lock, a waker and
    //     an error, is `Send`.
    unsafe impl<T> Send for Deliver<T> {}

    impl<T: 'static> Deliver<T> {
        /// Asks the task, if its loop is the one that runs here.
        fn start(self) {
            let id = self.id;
            let delivery: Delivery = Box::new(move |task| self.finish(task));
            current(|event_loop| event_loop.deliver(id, delivery));
        }

        fn finish(mut self, task: Pin<&mut dyn AnyTask>) {
            let mut output: Option<Result<T, JoinError>> = None;
            task.take_output(&mut output);
            if let Some(sender) = self.sender.take() {
                sender.send(output.unwrap_or_else(|| Err(JoinError::cancelled())));
            }
        }
    }

    impl<T: 'static> Drop for Deliver<T> {
        fn drop(&mut self) {
            if let Some(sender) = self.sender.take()
                && let Some(Legacy(mut task)) = estate::take(self.id)
            {
                let mut output: Option<Result<T, JoinError>> = None;
                task.as_mut().take_output(&mut output);
                sender.send(output.unwrap_or_else(|| Err(JoinError::cancelled())));
            }
            // Otherwise the sender is dropped, which says cancelled.
        }
    }

    let (packet, sender) = Packet::new();
    packet.is_done_by(id);
    let deliver = Deliver { id, sender: Some(sender) };
    mailbox::send(id.owner(), Mail::Run(Box::new(move || deliver.start())));
    packet
}

use imp::{clone_own, drop_own};
pub(crate) use imp::{id_of, lend_waker};

/// Wakers on targets whose pointers hold a packed number.
#[cfg(target_pointer_width = "64")]
mod imp {
    use std::mem::{self, ManuallyDrop};
    use std::ptr;
    use std::task::{RawWaker, RawWakerVTable, Waker};

    use polyloop_reactor::Token;

    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake, drop);

    /// Is only called for others: what is ours clones by [`clone_of`](super::clone_of).
    fn clone(data: *const ()) -> RawWaker {
        super::note_foreign(Token::from_raw(data.addr() as u64));
        RawWaker::new(data, &VTABLE)
    }

    fn wake(data: *const ()) {
        super::wake(Token::from_raw(data.addr() as u64));
    }

    fn drop(_data: *const ()) {}

    /// Makes the waker of the task that `id` names.
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
        // Not dropped: there is nothing to drop, and the compiler cannot know it.
        f(&ManuallyDrop::new(waker_of(id)))
    }

    /// Returns the task that `waker` wakes, if the waker is one of ours.
    #[inline]
    pub(crate) fn id_of(waker: &Waker) -> Option<Token> {
        ptr::eq(waker.vtable(), &VTABLE).then(|| Token::from_raw(waker.data().addr() as u64))
    }

    /// Clones a waker that is one of ours, without a note that other code has one.
    #[inline]
    pub(crate) fn clone_own(_waker: &Waker, id: Token) -> Waker {
        waker_of(id)
    }

    /// Drops a waker that is one of ours: there is nothing to drop, and the compiler cannot know it.
    #[inline]
    pub(crate) fn drop_own(waker: Waker) {
        mem::forget(waker);
    }
}

/// Wakers on targets with smaller pointers: the number lives in an allocation that they share.
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

    /// Is only called for others: what is ours clones by [`clone_of`](super::clone_of).
    fn clone(data: *const ()) -> RawWaker {
        // SAFETY: the waker that is cloned has this vtable, and lives during the call.
        super::note_foreign(unsafe { id_at(data) });
        share(data)
    }

    /// Makes a second owner of a waker's number.
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

    /// Makes the waker of the task that `id` names.
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

    /// Returns the task that `waker` wakes, if the waker is one of ours.
    pub(crate) fn id_of(waker: &Waker) -> Option<Token> {
        // SAFETY: the vtable says that the waker is one of ours, and it lives during the call.
        ptr::eq(waker.vtable(), &VTABLE).then(|| unsafe { id_at(waker.data()) })
    }

    /// Clones a waker that is one of ours, without a note that other code has one.
    pub(crate) fn clone_own(waker: &Waker, _id: Token) -> Waker {
        let raw = share(waker.data());
        // SAFETY: as in `waker_of`; the new waker owns the count that `share` has added.
        unsafe { Waker::from_raw(raw) }
    }

    /// Drops a waker that is one of ours.
    pub(crate) fn drop_own(waker: Waker) {
        std::mem::drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imp::waker_of;

    #[test]
    fn a_waker_of_ours_is_recognised_on_every_target() {
        let id = Token::new(1_000, 7, 5);
        let waker = waker_of(id);
        assert_eq!(id_of(&waker), Some(id));
        // As other code clones it, and as this crate does.
        let (foreign, own) = (waker.clone(), clone_of(&waker));
        assert_eq!((id_of(&foreign), id_of(&own)), (Some(id), Some(id)));
        assert!(foreign.will_wake(&waker));
        drop(waker);
        drop(own);
        assert_eq!(into_id(foreign, id.owner()).ok(), Some(id));
        lend_waker(id, |waker| assert_eq!(id_of(waker), Some(id)));
        assert_eq!(id_of(Waker::noop()), None);
    }
}
