//! [`JoinHandle`]: awaits the output of a task.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use polyloop_reactor::Token;

use crate::JoinError;
use crate::event_loop::local_loops::{if_current_or_idle, if_local};
use crate::event_loop::mailbox::{self, Command};
use crate::inspect::notes::Notes;
use crate::join::abort_on_drop::AbortOnDrop;
use crate::join::join_error::given;
use crate::join::packet::Packet;
use crate::join::requests::{abort, set_name};
use crate::raw::current::current;
use crate::raw::forward::{OutputKey, forward, inherit, renounce};
use crate::running::{note, poll_proceed};
use crate::runtime::no_runtime::no_runtime;
use crate::sync::Arc;
use crate::task::TaskId;
use crate::tasks::wakers::{clone_of, drop_of};
use crate::tasks::{Callback, Join};

/// Awaits the output of a spawned task.
///
/// Dropping the handle detaches the task, which continues to run. [`abort`](JoinHandle::abort) cancels it.
///
/// If the output is `Send`, so is the handle, and it can be awaited on another loop or another executor. On a plain
/// thread, [`join`](JoinHandle::join) blocks until the task has finished.
///
/// # Errors
/// [`JoinError`] if the task panicked, was aborted, or was cancelled because its runtime was dropped. The output of a
/// finished task stays available, even after its runtime was dropped.
///
/// # Panics
/// Panics if it is polled after it has completed.
///
/// # Cancel safety
/// The output stays with the task until the handle returns it, so `&mut handle` can be awaited in a `race`, dropped and
/// awaited again.
///
/// # Examples
/// ```
/// # polyloop::run(async {
/// let task = polyloop::spawn(async { 6 * 7 });
/// assert_eq!(task.await.unwrap(), 42);
/// # }).unwrap();
/// ```
///
/// If the output is not `Send`, neither is the handle:
/// ```compile_fail
/// use std::rc::Rc;
///
/// # polyloop::run(async {
/// let task = polyloop::spawn(async { Rc::new(7) });
/// std::thread::spawn(move || drop(task));
/// # }).unwrap();
/// ```
pub struct JoinHandle<T> {
    repr: Repr<T>,
}

enum Repr<T> {
    /// The output is in the task's slot, on the loop that the id names.
    Task(OutputKey<T>),
    /// The output crosses threads.
    Packet(Arc<Packet<T>>),
    /// The output was returned.
    Taken,
}

impl<T> JoinHandle<T> {
    pub(crate) fn of_task(id: Token) -> JoinHandle<T> {
        JoinHandle { repr: Repr::Task(OutputKey::new(id)) }
    }

    pub(crate) fn of_packet(packet: Arc<Packet<T>>) -> JoinHandle<T> {
        JoinHandle { repr: Repr::Packet(packet) }
    }

    /// Cancels the task: drops its future, and makes the handle return a [`JoinError`] that
    /// [is cancelled](JoinError::is_cancelled).
    ///
    /// The future is dropped at once, or after the current poll if the task aborts itself. On another thread, the loop
    /// drops it in its next turn. A task that has finished keeps its output.
    ///
    /// Blocking work that is running cannot be cancelled. Queued blocking work is cancelled, but its closure is dropped
    /// only when a thread of the pool takes it.
    ///
    /// Dropping a future may abort further tasks, for example with an [`AbortOnDrop`]. Up to 16 aborts nest; deeper ones
    /// are executed in order after the sixteenth has dropped its future, and before it returns.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let task = polyloop::spawn(std::future::pending::<()>());
    /// task.abort();
    /// assert!(task.await.unwrap_err().is_cancelled());
    /// # }).unwrap();
    /// ```
    pub fn abort(&self) {
        match &self.repr {
            Repr::Task(key) => abort(key.id()),
            Repr::Packet(packet) => {
                if let Some(task) = packet.abort() {
                    abort(task);
                }
            }
            Repr::Taken => {}
        }
    }

    /// Converts the handle into one that aborts the task when it is dropped.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let witness = std::rc::Rc::new(());
    /// let held = witness.clone();
    /// let task = polyloop::spawn(async move {
    ///     let _held = held;
    ///     std::future::pending::<()>().await
    /// });
    /// drop(task.abort_on_drop());
    /// assert_eq!(std::rc::Rc::strong_count(&witness), 1);
    /// # }).unwrap();
    /// ```
    pub fn abort_on_drop(self) -> AbortOnDrop<T> {
        AbortOnDrop::new(self)
    }

    /// Returns the task's id, or `None` for blocking work, for a task that another thread spawned and that has not
    /// started, and after the output was returned.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let task = polyloop::spawn(async { polyloop::task::current() });
    /// let id = task.id();
    /// assert_eq!(task.await.unwrap(), id);
    /// # }).unwrap();
    /// ```
    pub fn id(&self) -> Option<TaskId> {
        let token = match &self.repr {
            Repr::Task(key) => Some(key.id()),
            Repr::Packet(packet) => packet.task(),
            Repr::Taken => None,
        };
        token.map(TaskId::new)
    }

    /// Returns whether the task has finished, so that awaiting the handle would return at once.
    ///
    /// For a handle from [`spawn`](crate::spawn), the result is exact on the task's thread. On another thread it is
    /// `false` until the handle has been polled there or the loop has ended.
    ///
    /// # References
    /// Python's `Task.done`.
    ///
    /// # Examples
    /// ```
    /// # polyloop::run(async {
    /// let task = polyloop::spawn(async {});
    /// assert!(!task.is_finished());
    /// polyloop::yield_now().await;
    /// assert!(task.is_finished());
    /// # }).unwrap();
    /// ```
    pub fn is_finished(&self) -> bool {
        match &self.repr {
            Repr::Task(key) => {
                let id = key.id();
                if_local(id.owner(), |event_loop| event_loop.look_up(id))
                    .map_or_else(|| !mailbox::is_open_to(id), |join| join != Join::Running)
            }
            Repr::Packet(packet) => packet.is_done(),
            Repr::Taken => true,
        }
    }

    /// Sets the task's name for [`task::all`](crate::task::all), dumps and reports, and returns the handle.
    ///
    /// To name blocking work, use [`BlockingPool::spawn_named`](crate::BlockingPool::spawn_named).
    ///
    /// # References
    /// The argument `name` of Python's `asyncio.create_task`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::{spawn, task};
    ///
    /// # polyloop::run(async {
    /// let clock = spawn(std::future::pending::<()>()).named("clock");
    /// assert_eq!(clock.name().as_deref(), Some("clock"));
    /// assert!(task::dump().to_string().contains("clock"));
    /// # }).unwrap();
    /// ```
    pub fn named(self, name: impl Into<String>) -> JoinHandle<T> {
        match &self.repr {
            Repr::Task(key) => set_name(key.id(), name.into()),
            Repr::Packet(packet) => {
                if let Some((task, name)) = packet.set_name(name.into()) {
                    set_name(task, name);
                }
            }
            Repr::Taken => {}
        }
        self
    }

    /// Returns the task's name, if it has one. Returns `None` on another thread than the task's.
    pub fn name(&self) -> Option<String> {
        let id = self.id()?.token();
        if_local(id.owner(), |event_loop| event_loop.name(id)).flatten()
    }

    /// Calls `f` with a reference to the output when the task finishes, before the handle returns the output. If the
    /// task has finished, `f` is called at once.
    ///
    /// Callbacks run in the order in which they were added, even if the handle is dropped. A panic in one is caught.
    /// Callbacks that are called at once and call `on_done` nest up to 16 deep; deeper ones are called after the
    /// sixteenth returns.
    ///
    /// # Panics
    /// Panics for a task on another thread and for blocking work, because `f` need not be `Send`: await the handle
    /// instead.
    ///
    /// # References
    /// Python's `Task.add_done_callback`.
    ///
    /// # Examples
    /// ```
    /// use std::{cell::Cell, rc::Rc};
    ///
    /// # polyloop::run(async {
    /// let sum = Rc::new(Cell::new(0));
    /// let seen = sum.clone();
    /// let task = polyloop::spawn(async { 6 * 7 });
    /// task.on_done(move |output| seen.set(*output.as_ref().unwrap()));
    /// assert_eq!(task.await.unwrap(), sum.get());
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn on_done(&self, f: impl FnOnce(&Result<T, JoinError>) + 'static)
    where
        T: 'static,
    {
        let Repr::Task(key) = &self.repr else {
            panic!("`on_done` needs the handle of a task of the running loop")
        };
        let id = key.id();
        let callback: Callback = Box::new(move |output| {
            f(output.downcast_ref().expect("a join handle has the type of its task"));
        });
        if if_local(id.owner(), |event_loop| event_loop.watch(id, callback)).is_none() {
            match current(|_| ()) {
                None => no_runtime("`on_done` was called"),
                Some(()) => panic!("`on_done` needs a task of a loop on this thread"),
            }
        }
    }
}

impl<T: 'static> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    #[inline]
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(cx).map(given)
    }
}

impl<T: 'static> JoinHandle<T> {
    /// Polls for an outcome that has not been returned yet.
    #[inline]
    #[track_caller]
    pub(crate) fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        if let Repr::Task(key) = &self.repr {
            if let Some(polled) = poll_local(key, cx) {
                let output = ready!(polled);
                self.repr = Repr::Taken;
                return Poll::Ready(output);
            }
            if let Some(output) = inherit(key) {
                self.repr = Repr::Taken;
                return Poll::Ready(output);
            }
            let packet = forward(key);
            self.repr = Repr::Packet(packet);
        }
        let Repr::Packet(packet) = &self.repr else {
            panic!("a join handle was polled after it was ready")
        };
        ready!(poll_proceed(cx));
        // Cloned before the packet is locked, and dropped after, because the waker may be foreign.
        let mut waker = Some(clone_of(cx.waker()));
        let polled = packet.poll_take(&mut waker);
        drop_of(waker);
        if polled.is_ready() {
            self.repr = Repr::Taken;
        } else {
            note(Notes::ELSEWHERE);
        }
        polled
    }
}

/// Takes the output on the task's loop. Returns `None` elsewhere.
#[inline]
fn poll_local<T: 'static>(
    key: &OutputKey<T>,
    cx: &Context<'_>,
) -> Option<Poll<Result<T, JoinError>>> {
    let id = key.id();
    let mut output: Option<Result<T, JoinError>> = None;
    let polled = if_current_or_idle(id.owner(), |event_loop| {
        let polled = event_loop.poll_join(id, cx);
        if polled == Poll::Ready(Join::Finished) {
            event_loop.take_output(id, &mut output);
        }
        polled
    });
    let Poll::Ready(join) = polled? else { return Some(Poll::Pending) };
    if join == Join::Gone {
        // The task may belong to an earlier loop with this number.
        output = inherit(key);
    }
    Some(Poll::Ready(output.unwrap_or_else(|| Err(JoinError::cancelled()))))
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        let Repr::Task(key) = &self.repr else { return };
        let id = key.id();
        match if_local(id.owner(), |event_loop| event_loop.detach(id)) {
            Some(true) => return,
            Some(false) => {}
            None => mailbox::send(id.owner(), Command::Detach(id)),
        }
        // After the message, which a loop that has ended meanwhile does not receive.
        renounce(key);
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state: &dyn fmt::Debug = match &self.repr {
            Repr::Task(key) => &key.id(),
            Repr::Packet(_) => &"across threads",
            Repr::Taken => &"taken",
        };
        f.debug_tuple("JoinHandle").field(state).finish()
    }
}
