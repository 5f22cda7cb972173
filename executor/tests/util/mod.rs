//! Helpers for several test files.
#![allow(dead_code, reason = "not every file uses all of it")]
#![allow(unreachable_pub, reason = "a module of a test has no other reader")]

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::resume_unwind;
use std::process;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{Builder, GroupError, Runtime, TaskGroup};
use polyloop_reactor::{Backend, Events, Interest, Mode, Notifier, Registration, Selector, Token};

/// Makes a loop with virtual time.
pub fn virtual_runtime() -> Runtime {
    Builder::new().virtual_time(true).build().unwrap()
}

/// Runs `future` in virtual time.
pub fn run_virtual<F: Future>(future: F) -> F::Output {
    virtual_runtime().block_on(future).unwrap()
}

/// Runs a task group with a deadline `duration` from now on.
pub async fn group_with_timeout<T, E: 'static>(
    duration: Duration,
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<T, E>,
) -> Result<T, GroupError<E>> {
    TaskGroup::scope(async move |group: &TaskGroup<E>| {
        group.cancel_scope().set_timeout(duration);
        body(group).await
    })
    .await
}

/// A record of events, in order.
#[derive(Clone, Default)]
pub struct Trace(Rc<RefCell<Vec<String>>>);

impl Trace {
    pub fn push(&self, what: impl fmt::Display) {
        self.0.borrow_mut().push(what.to_string());
    }

    #[track_caller]
    pub fn assert(&self, expected: &[&str]) {
        assert_eq!(*self.0.borrow(), expected);
    }

    /// Returns a value whose destructor records `what`.
    pub fn on_drop(&self, what: &'static str) -> OnDrop<impl FnMut() + use<>> {
        let trace = self.clone();
        OnDrop(move || trace.push(what))
    }
}

/// Calls a function when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A foreign waker: counts its wakes, and unblocks a thread.
#[derive(Default)]
pub struct ForeignWaker {
    n_wakes: AtomicUsize,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl ForeignWaker {
    pub fn new() -> (Arc<ForeignWaker>, Waker) {
        let foreign = Arc::new(ForeignWaker::default());
        (Arc::clone(&foreign), Waker::from(foreign))
    }

    pub fn n_wakes(&self) -> usize {
        self.n_wakes.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for ForeignWaker {
    fn wake(self: Arc<Self>) {
        self.n_wakes.fetch_add(1, Ordering::SeqCst);
        *self.woken.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// A minimal executor: one future on one thread, with a foreign waker.
pub fn block_on_elsewhere<F: Future>(future: F) -> F::Output {
    let (foreign, waker) = ForeignWaker::new();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => foreign.wait(),
        }
    }
}

/// Calls `f` on a new thread, and panics if it takes longer than `limit`, because a lost wake-up shows as a
/// hang. The thread is then detached, so that it does not delay other tests.
#[track_caller]
pub fn with_watchdog<R>(limit: Duration, f: impl FnOnce() -> R + Send + 'static) -> R
where
    R: Send + 'static,
{
    let (done, is_done) = mpsc::channel();
    let name = thread::current().name().unwrap_or_default().to_owned();
    let body = move || drop(done.send(f()));
    let body = thread::Builder::new().name(name).spawn(body).unwrap();
    match is_done.recv_timeout(limit) {
        Ok(result) => {
            body.join().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => resume_unwind(body.join().unwrap_err()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            panic!("no progress for {limit:?}: a wake-up was lost")
        }
    }
}

/// Calls `f` on this thread, and ends the process if it takes longer than `limit`: for forked children, which
/// run no other test.
pub fn with_fatal_watchdog<R>(limit: Duration, f: impl FnOnce() -> R) -> R {
    let (done, is_done) = mpsc::channel::<()>();
    let dog = thread::spawn(move || {
        if is_done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("no progress for {limit:?}: a wake-up was lost");
            process::abort();
        }
    });
    let result = f();
    drop(done);
    dog.join().unwrap();
    result
}

/// A selector without descriptors, which only waits for its notifier.
#[derive(Debug)]
pub struct Blind {
    shared: Arc<(Mutex<bool>, Condvar)>,
    notifier: Notifier,
}

impl Default for Blind {
    fn default() -> Blind {
        let shared: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let theirs = Arc::clone(&shared);
        let notifier = Notifier::from_fn(move || {
            *theirs.0.lock().unwrap() = true;
            theirs.1.notify_all();
            Ok(())
        });
        Blind { shared, notifier }
    }
}

impl Selector for Blind {
    fn backend(&self) -> Backend {
        Backend::Custom("blind")
    }

    fn supports(&self, mode: Mode) -> bool {
        mode == Mode::Level
    }

    fn register(
        &mut self,
        _fd: BorrowedFd<'_>,
        _token: Token,
        _interest: Interest,
        _mode: Mode,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn modify(
        &mut self,
        _fd: BorrowedFd<'_>,
        _token: Token,
        _interest: Interest,
        _mode: Mode,
    ) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn unregister(&mut self, _fd: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let (notified, changed) = &*self.shared;
        let mut notified = notified.lock().unwrap();
        let limit = timeout.unwrap_or(Duration::MAX).min(Duration::from_secs(86_400));
        if !*notified {
            notified = changed.wait_timeout_while(notified, limit, |n| !*n).unwrap().0;
        }
        *notified = false;
        drop(notified);
        self.notifier.acknowledge();
        Ok(())
    }

    fn notifier(&self) -> io::Result<Notifier> {
        Ok(self.notifier.clone())
    }

    fn get(&self, _fd: BorrowedFd<'_>) -> Option<Registration> {
        None
    }

    fn registrations(&self) -> Vec<Registration> {
        Vec::new()
    }
}
