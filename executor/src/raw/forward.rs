//! Forwarding an output to another thread, which its type permits although this code is type-erased.
//!
//! The output alone is sent while the task's loop is alive ([`forward`]); the task's box is kept if the output outlives its
//! loop ([`leave`], [`inherit`]).

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Mutex;

use polyloop_reactor::{PerProcess, Token};

use crate::event_loop::mailbox::{self, Command};
use crate::join::deep_drop::drop_deep;
use crate::join::join_error::JoinError;
use crate::join::orphans::Orphans;
use crate::join::packet::{Packet, Sender};
use crate::raw::current::current;
use crate::sync::Arc;
use crate::tasks::Delivery;
use crate::tasks::stage::{AnyTask, TaskBox};

/// Identifies a task and the type of its output, and is the permission to take that output.
///
/// Created only for the handle that `spawn` returns. It is `Send` if the output is.
pub(crate) struct OutputKey<T> {
    id: Token,
    /// Unlike a `T`, it can always be moved, and it is `Sync` if the output is `Send`.
    output: PhantomData<std::sync::Arc<Mutex<T>>>,
}

impl<T> OutputKey<T> {
    pub(crate) fn new(id: Token) -> OutputKey<T> {
        OutputKey { id, output: PhantomData }
    }

    #[inline]
    pub(crate) fn id(&self) -> Token {
        self.id
    }
}

/// The box of a task that has finished and whose loop has ended. It holds the output.
struct Orphan(TaskBox);

// SAFETY: what is sent is a box that holds an output of type `T`, and no future any more. It is
// opened, and dropped, only on behalf of the task's own handle (`inherit`, `renounce`, `Deliver`)
// or on the thread of the task's loop (`renounce_local`). A number names one task for as long as the
// process lives, since slots are retired at their last generation and loop numbers with them, so
// that handle is the `JoinHandle<T>` that `spawn` returned, which has the only `OutputKey<T>`. Where a
// handle acts there are two cases.
// - `T` is `Send`. Then so is the content.
// - `T` is not `Send`. Then neither is the key, so the handle is on the thread where it was made,
//   which is that of the task's loop: the content has not left its thread. What acts for the
//   handle elsewhere, a `Deliver`, is there only while no such box exists: see there.
// The allocation itself is of the global allocator, and may be freed anywhere.
unsafe impl Send for Orphan {}

/// The outputs that have outlived their loops. A forked child starts without its parent's.
static ORPHANS: PerProcess<Orphans<Orphan>> = PerProcess::new(|_parents| Orphans::default());

/// Takes a box from the outputs that have outlived their loops, if it is there.
fn take_orphan(id: Token) -> Option<TaskBox> {
    let Orphan(task) = ORPHANS.peek()?.take(id)?;
    Some(task)
}

/// Stores the output of a finished task, for its handle to take after the loop has ended.
pub(crate) fn leave(id: Token, task: TaskBox) {
    ORPHANS.get().put(id, Orphan(task));
}

/// Takes the output of a task whose loop has ended.
pub(crate) fn inherit<T: 'static>(key: &OutputKey<T>) -> Option<Result<T, JoinError>> {
    let mut task = take_orphan(key.id)?;
    let mut output = None;
    task.as_mut().take_output(&mut output);
    output
}

/// Drops the output of a task whose loop has ended, because its handle is dropped.
pub(crate) fn renounce<T>(key: &OutputKey<T>) {
    renounce_local(key.id);
}

/// Drops the output of a task of this thread whose loop has ended.
pub(crate) fn renounce_local(id: Token) {
    if let Some(task) = take_orphan(id) {
        drop_deep(task);
    }
}

/// Forwards the output of a task to a packet, for a handle that was polled where the task's loop is not current.
///
/// No task is spawned for this: the delivery is stored in the task's slot, and the loop calls it when the task finishes.
pub(crate) fn forward<T: 'static>(key: &OutputKey<T>) -> Arc<Packet<T>> {
    let (packet, sender) = Packet::new();
    // No other code has the packet yet, so it has no name and no abort to pass on.
    packet.set_task(key.id);
    let deliver = Deliver { id: key.id, sender: Some(sender) };
    mailbox::send(key.id.owner(), Command::Run(Box::new(move || deliver.start())));
    packet
}

/// Fills a packet with the output of a task, on the task's loop or from the outputs that have outlived their loops.
struct Deliver<T: 'static> {
    id: Token,
    /// `None` once it has filled the packet.
    sender: Option<Sender<T>>,
}

// SAFETY: there are two cases.
// - `T` is `Send`. Then so is everything in here.
// - `T` is not `Send`. Then neither is the handle's `OutputKey<T>`, so the handle is on the thread
//   where it was made, which is that of the task's loop, and this was made there too. That loop was
//   then alive or not.
//   - If it was alive, it has the mailbox of its number, and cannot end before this thread goes
//     on. So the message is taken, or dropped when the loop ends, on this thread.
//   - If it had ended, another loop may get the message, on another thread. It finds no such
//     task, since numbers are not used twice: a slot is retired at its last generation, and a
//     loop begins after all generations of those that had its number. Nor does it find that the
//     task has left an output: the handle has looked before, and the loop cannot end again. So
//     no `T` has come or will come into the packet: what is touched there, a lock, a waker and
//     an error, is `Send`.
unsafe impl<T> Send for Deliver<T> {}

impl<T: 'static> Deliver<T> {
    /// Stores the delivery with the task, if its loop is the current one.
    fn start(self) {
        let id = self.id;
        let delivery: Delivery = Box::new(move |task| self.finish(task));
        current(|event_loop| event_loop.deliver(id, delivery));
    }

    fn finish(mut self, task: Pin<&mut dyn AnyTask>) {
        if let Some(sender) = self.sender.take() {
            send_output(sender, task);
        }
    }
}

impl<T: 'static> Drop for Deliver<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && let Some(mut task) = take_orphan(self.id)
        {
            send_output(sender, task.as_mut());
        }
        // Otherwise the sender is dropped, which sets the outcome cancelled.
    }
}

fn send_output<T: 'static>(sender: Sender<T>, task: Pin<&mut dyn AnyTask>) {
    let mut output: Option<Result<T, JoinError>> = None;
    task.take_output(&mut output);
    sender.send(output.unwrap_or_else(|| Err(JoinError::cancelled())));
}
