//! Debug mode reports a deadlock only if there is one, regardless of what other threads do during its check.
//!
//! The only test of its file, which continues in forked children: a thread of the test harness could wake
//! any loop, so that no deadlock would be reported beside it.

use std::future::{pending, poll_fn};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Builder, Runtime, Tried, channel, forget_waiter, note_io, poll_source, sleep, spawn_blocking,
    timeout, with_reactor,
};
use polyloop_reactor::conformance::in_forked_child;
use polyloop_reactor::{Backend, Direction, Token, Watched};

/// Enough to fail in nearly every run if a hundredth of the waits is wrongly reported.
const N_WAITS: usize = 1_000;

/// Below the limit of a select loop.
const N_SOCKETS: usize = 900;

struct Socket(UdpSocket);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Socket {
    fn is_latest(&self, _token: Token) -> bool {
        true
    }
}

impl Socket {
    /// Makes a socket that a task has waited for once and no longer waits for.
    fn idle() -> Token {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let watched: Arc<dyn Watched> = Arc::new(Socket(socket));
        let token = with_reactor(|reactor| reactor.register(watched)).unwrap().unwrap();
        note_io(token, Direction::Read, Tried::WouldBlock);
        let mut key = None;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(poll_source(token, Direction::Read, &mut key, &mut cx).is_pending());
        forget_waiter(token, Direction::Read, key.expect("it is waiting"));
        token
    }
}

/// Waits for a socket that never becomes ready.
async fn readable(token: Token) {
    let mut key = None;
    poll_fn(|cx| poll_source(token, Direction::Read, &mut key, cx)).await.unwrap();
}

fn wait_for_blocking_work(runtime: &Runtime) -> io::Result<()> {
    runtime.block_on(async { spawn_blocking(|| ()).await.unwrap() })
}

fn wait_for_a_thread_that_sends_and_ends(runtime: &Runtime) -> io::Result<()> {
    let (sender, mut receiver) = channel::unbounded();
    let thread = thread::spawn(move || sender.send(()).unwrap());
    let received = runtime.block_on(receiver.recv());
    thread.join().unwrap();
    received.map(|message| assert_eq!(message, Some(())))
}

/// Waits for a sleep that has no deadline until another thread gives it one.
fn wait_for_a_thread_that_resets_a_sleep(runtime: &Runtime) -> io::Result<()> {
    let nap = Arc::new(Mutex::new(sleep(Duration::MAX)));
    let (polled, is_polled) = mpsc::channel();
    let shared = nap.clone();
    let thread = thread::spawn(move || {
        is_polled.recv().unwrap();
        shared.lock().unwrap().reset(Instant::now());
    });
    let outcome = runtime.block_on(poll_fn(|cx| {
        let poll = Pin::new(&mut *nap.lock().unwrap()).poll(cx);
        // If this is the last poll, the thread has ended.
        let _ = polled.send(());
        poll
    }));
    drop(polled);
    thread.join().unwrap();
    outcome
}

/// Counts the waits that end with an error.
fn count_errors(runtime: &Runtime, wait: fn(&Runtime) -> io::Result<()>) -> usize {
    (0..N_WAITS).filter(|_| wait(runtime).is_err()).count()
}

fn is_stuck<T>(outcome: io::Result<T>) -> bool {
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::Deadlock)
}

/// Reports whether the system can count the process's threads.
fn threads_are_counted() -> bool {
    Path::new("/proc/self/stat").exists()
}

#[test]
fn a_deadlock_is_reported_only_if_nothing_can_wake_the_loop() {
    for backend in Backend::available() {
        let code = in_forked_child(|| {
            let runtime = Builder::new().backend(*backend).debug(true).build().unwrap();
            // A deadlock is found; there is no other thread yet.
            let (sender, mut receiver) = channel::unbounded::<()>();
            let is_found = is_stuck(runtime.block_on(pending::<()>()))
                && (!threads_are_counted()
                    || is_stuck(runtime.block_on(receiver.recv()))
                        && is_stuck(runtime.block_on(sleep(Duration::MAX))));
            drop(sender);
            let n_wrong = || {
                [
                    wait_for_blocking_work,
                    wait_for_a_thread_that_sends_and_ends,
                    wait_for_a_thread_that_resets_a_sleep,
                ]
                .map(|wait| count_errors(&runtime, wait))
            };
            let without = n_wrong();
            // They make the loop's check take long.
            let sockets: Vec<_> =
                runtime.enter(|| (0..N_SOCKETS).map(|_| Socket::idle()).collect());
            let with = n_wrong();
            // Not while a task waits for one of them.
            let brief = timeout(Duration::from_millis(50), readable(sockets[0]));
            let is_late = matches!(runtime.block_on(brief), Ok(Err(_)));
            if (without, with) != ([0; 3], [0; 3]) {
                eprintln!(
                    "{backend}: {without:?} and {with:?} of {N_WAITS} waits were reported as deadlocks"
                );
            }
            is_found && is_late && (without, with) == ([0; 3], [0; 3])
        });
        assert_eq!(code.unwrap(), 0, "{backend}");
    }
}
