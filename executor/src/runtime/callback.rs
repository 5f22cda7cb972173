//! Callbacks: plain functions that the loop calls soon, later, or at a given time.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::{Handle, JoinHandle, sleep_until, spawn};

/// Schedules `f` to be called after the tasks that are ready now.
///
/// A panic in `f` is caught.
///
/// # Panics
/// Panics outside a runtime. On other threads, use [`Handle::call_soon`].
///
/// # References
/// Python's `loop.call_soon`.
///
/// # Examples
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// # polyloop::run(async {
/// let called = Rc::new(Cell::new(false));
/// let seen = called.clone();
/// polyloop::callback::call_soon(move || seen.set(true));
/// polyloop::yield_now().await;
/// assert!(called.get());
/// # }).unwrap();
/// ```
#[track_caller]
pub fn call_soon(f: impl FnOnce() + 'static) -> CallHandle {
    CallHandle::new(spawn(async move { f() }), None)
}

/// Schedules `f` to be called after `delay`, counted from this call. A delay that exceeds the range of the clock never
/// ends.
///
/// # Panics
/// Panics outside a runtime.
///
/// # References
/// Python's `loop.call_later`.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// # polyloop::run(async {
/// let call = polyloop::callback::call_later(Duration::from_secs(3_600), || panic!("too late"));
/// call.cancel();
/// assert!(call.is_cancelled());
/// # }).unwrap();
/// ```
#[track_caller]
pub fn call_later(delay: Duration, f: impl FnOnce() + 'static) -> CallHandle {
    let sleep = crate::sleep(delay);
    let deadline = sleep.deadline();
    let call = async move {
        sleep.await;
        f();
    };
    CallHandle::new(spawn(call), deadline)
}

/// Schedules `f` to be called at `deadline`, or in the next turn if that is in the past.
///
/// Functions with the same deadline are called in the order in which they were scheduled.
///
/// # Panics
/// Panics outside a runtime.
///
/// # References
/// Python's `loop.call_at`.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::sleep;
/// use polyloop::callback::call_at;
/// use polyloop::time::now;
///
/// # polyloop::run(async {
/// let deadline = now() + Duration::from_millis(1);
/// let call = call_at(deadline, || println!("now"));
/// assert_eq!(call.deadline(), Some(deadline));
/// sleep(Duration::from_millis(2)).await;
/// # }).unwrap();
/// ```
#[track_caller]
pub fn call_at(deadline: Instant, f: impl FnOnce() + 'static) -> CallHandle {
    let call = async move {
        sleep_until(deadline).await;
        f();
    };
    CallHandle::new(spawn(call), Some(deadline))
}

impl Handle {
    /// Schedules `f` to be called on the loop's thread, in its next turn. If the loop has ended, `f` is dropped.
    ///
    /// # References
    /// Python's `loop.call_soon_threadsafe`.
    ///
    /// # Examples
    /// ```
    /// use polyloop::{channel, Handle};
    ///
    /// # polyloop::run(async {
    /// let handle = Handle::current().unwrap();
    /// let (sender, mut receiver) = channel::unbounded();
    /// std::thread::spawn(move || handle.call_soon(move || sender.send("here").unwrap()));
    /// assert_eq!(receiver.recv().await, Some("here"));
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn call_soon(&self, f: impl FnOnce() + Send + 'static) -> CallHandle {
        CallHandle::new(self.spawn(async move { f() }), None)
    }

    /// Schedules `f` to be called on the loop's thread after `delay`, counted from this call.
    ///
    /// If the loop's clock differs from the caller's, because one of them has
    /// [virtual time](crate::Builder::virtual_time), the delay counts from the loop's next turn by the loop's clock.
    /// [`CallHandle::deadline`] then refers to the caller's clock.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use polyloop::{channel, Handle};
    ///
    /// # polyloop::run(async {
    /// let handle = Handle::current().unwrap();
    /// let (sender, mut receiver) = channel::unbounded();
    /// std::thread::spawn(move || {
    ///     handle.call_later(Duration::from_millis(1), move || sender.send("later").unwrap())
    /// });
    /// assert_eq!(receiver.recv().await, Some("later"));
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn call_later(&self, delay: Duration, f: impl FnOnce() + Send + 'static) -> CallHandle {
        let sleep = crate::sleep(delay);
        let deadline = sleep.deadline();
        let call = async move {
            sleep.await;
            f();
        };
        CallHandle::new(self.spawn(call), deadline)
    }

    /// Schedules `f` to be called on the loop's thread at `deadline`, by the loop's clock.
    ///
    /// # Examples
    /// ```
    /// use std::time::{Duration, Instant};
    /// use polyloop::Handle;
    ///
    /// # polyloop::run(async {
    /// let handle = Handle::current().unwrap();
    /// let far = Instant::now() + Duration::from_secs(3_600);
    /// let call = std::thread::spawn(move || handle.call_at(far, || panic!("too late")));
    /// call.join().unwrap().cancel();
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn call_at(&self, deadline: Instant, f: impl FnOnce() + Send + 'static) -> CallHandle {
        let call = async move {
            sleep_until(deadline).await;
            f();
        };
        CallHandle::new(self.spawn(call), Some(deadline))
    }
}

/// Cancels a scheduled call. Dropping the handle does not cancel it.
///
/// # References
/// Python's `asyncio.Handle` and `asyncio.TimerHandle`.
#[derive(Debug)]
pub struct CallHandle {
    task: JoinHandle<()>,
    deadline: Option<Instant>,
    cancelled: Cell<bool>,
}

impl CallHandle {
    fn new(task: JoinHandle<()>, deadline: Option<Instant>) -> CallHandle {
        CallHandle { task, deadline, cancelled: Cell::new(false) }
    }

    /// Cancels the call, if `f` has not been called yet.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        self.task.abort();
    }

    /// Returns whether [`cancel`](CallHandle::cancel) was called, in time or not.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Returns the deadline, or `None` if the call is due as soon as possible, or never.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
