//! Aim: between two turns of a loop, handles report the true state and the descriptor reports what is due.

mod util;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Builder, NextTurn, Runtime, channel, run, sleep, spawn, with_reactor, yield_now,
};
use polyloop_reactor::{Backend, Events, Interest, Mode, Selector, Token, Watched};

use util::{ForeignWaker, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

const LOOK: Option<Duration> = Some(Duration::ZERO);

fn turn(runtime: &Runtime) {
    runtime.turn(LOOK, Duration::MAX).unwrap();
}

fn runtimes() -> impl Iterator<Item = Runtime> {
    Backend::available().iter().map(|backend| Builder::new().backend(*backend).build().unwrap())
}

/// The backends whose descriptor a host can watch.
fn watchable() -> impl Iterator<Item = Runtime> {
    runtimes().filter(|runtime| runtime.pollable_fd().is_ok())
}

/// A host's poll loop.
struct Host(Box<dyn Selector>, Events);

impl Host {
    fn watch(fd: BorrowedFd<'_>) -> Host {
        let mut poll = Backend::Poll.open().unwrap();
        poll.register(fd, Token::new(0, 0, 0), Interest::READABLE, Mode::Level).unwrap();
        Host(poll, Events::with_capacity(8))
    }

    fn is_called(&mut self) -> bool {
        self.0.select(&mut self.1, LOOK).unwrap();
        !self.1.is_empty()
    }
}

#[test]
fn is_finished_is_true_between_turns_once_the_task_has_finished() {
    with_watchdog(LIMIT, || {
        for runtime in runtimes() {
            let task = runtime.spawn(sleep(Duration::from_millis(1)));
            assert!(!task.is_finished());
            while !task.is_finished() {
                runtime.turn(None, Duration::MAX).unwrap();
            }
            // Also inside another loop of the same thread.
            assert!(run(async { task.is_finished() }).unwrap());
            assert!(runtime.block_on(task).unwrap().is_ok());
        }
    });
}

#[test]
fn a_task_whose_loop_has_ended_is_finished_on_every_thread() {
    let runtime = Runtime::new().unwrap();
    let tasks = [runtime.spawn(pending::<()>()), runtime.spawn(pending::<()>())];
    thread::scope(|scope| {
        scope.spawn(|| assert!(!tasks[0].is_finished()));
    });
    drop(runtime);
    let [here, there] = tasks;
    assert!(here.is_finished());
    thread::spawn(move || assert!(there.is_finished())).join().unwrap();
    // Another loop with the same number has other tasks.
    let next = Runtime::new().unwrap();
    let other = next.spawn(pending::<()>());
    assert!(here.is_finished() && !other.is_finished());
}

#[test]
fn a_host_polls_names_and_aborts_tasks_between_turns() {
    for runtime in runtimes() {
        let task = runtime.spawn(async {
            yield_now().await;
            Rc::new(7)
        });
        let mut task = task.named("seven");
        assert_eq!(task.name().as_deref(), Some("seven"));
        assert!(task.id().is_some());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let pushed = seen.clone();
        task.on_done(move |output| pushed.borrow_mut().push(**output.as_ref().unwrap()));
        let (foreign, waker) = ForeignWaker::new();
        let mut cx = Context::from_waker(&waker);
        // Any number of times, and regardless of the last task's remaining budget.
        for _ in 0..1_000 {
            assert!(Pin::new(&mut task).poll(&mut cx).is_pending());
        }
        assert_eq!(foreign.n_wakes(), 0);
        while foreign.n_wakes() == 0 {
            turn(&runtime);
        }
        assert!(task.is_finished());
        assert_eq!(*seen.borrow(), [7]);
        task.on_done(|output| assert!(output.is_ok()));
        let Poll::Ready(output) = Pin::new(&mut task).poll(&mut cx) else { panic!("not finished") };
        assert_eq!(*output.unwrap(), 7);

        let witness = Rc::new(());
        let held = witness.clone();
        let task = runtime.spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        turn(&runtime);
        task.abort();
        assert!(task.is_finished(), "an abort on the loop's thread takes effect at once");
        assert_eq!(Rc::strong_count(&witness), 1);
        let output = runtime.spawn(async move { witness });
        turn(&runtime);
        drop(output);
        assert_eq!(runtime.enter(|| polyloop_executor::metrics().tasks), 1);
    }
}

#[test]
fn a_handle_can_be_polled_after_a_task_that_spent_its_budget() {
    let runtime = Runtime::new().unwrap();
    let mut ready = runtime.spawn(async { 7 });
    runtime.spawn(async {
        let (sender, mut receiver) = channel::unbounded();
        (0..1_000).for_each(|i| sender.send(i).unwrap());
        while receiver.recv().await.is_some() {}
    });
    turn(&runtime);
    let mut cx = Context::from_waker(Waker::noop());
    let polled = runtime.enter(|| Pin::new(&mut ready).poll(&mut cx));
    assert!(polled.is_ready());
}

#[test]
fn the_descriptor_is_readable_for_messages_before_the_first_turn_and_after_block_on() {
    for runtime in watchable() {
        let handle = runtime.handle();
        let mut host = Host::watch(runtime.pollable_fd().unwrap());
        assert!(!host.is_called());
        let send = || thread::spawn(move || handle.call_soon(|| ())).join().unwrap();
        send();
        assert!(host.is_called(), "sent before the first turn");
        turn(&runtime);
        turn(&runtime);
        assert!(!host.is_called());
        runtime.block_on(sleep(Duration::from_millis(1))).unwrap();
        assert!(!host.is_called());
        send();
        assert!(host.is_called(), "sent after a block_on");
        turn(&runtime);
        turn(&runtime);
        assert!(!host.is_called() && runtime.next_turn() == NextTurn::OnEvent);
        runtime.block_on(async { send() }).unwrap();
        assert!(host.is_called(), "sent during a block_on, and not read");
    }
    for runtime in runtimes() {
        // Sent before the descriptor was requested.
        let handle = runtime.handle();
        thread::spawn(move || handle.call_soon(|| ())).join().unwrap();
        assert!(runtime.next_turn().is_due());
        let Ok(fd) = runtime.pollable_fd() else { continue };
        assert!(Host::watch(fd).is_called());
    }
}

#[test]
fn the_descriptor_is_readable_for_ready_tasks_from_any_source() {
    for runtime in watchable() {
        let mut host = Host::watch(runtime.pollable_fd().unwrap());
        let mut calls = |why: &str| {
            assert!(host.is_called(), "{why}");
            for _ in 0..3 {
                turn(&runtime);
            }
            assert!(!host.is_called(), "{why}: nothing is left");
        };
        let kept = runtime.spawn(pending::<()>());
        calls("spawn with the handle kept");
        let (sender, mut receiver) = channel::unbounded::<u32>();
        let (local, mut inbox) = channel::local::unbounded::<u32>();
        runtime.enter(|| spawn(async move { while receiver.recv().await.is_some() {} }));
        calls("spawn inside enter");
        runtime.spawn(async move { while inbox.recv().await.is_some() {} });
        calls("spawn");
        runtime.enter(|| local.send(1).unwrap());
        calls("send inside enter");
        sender.send(1).unwrap();
        calls("send on the loop's thread");
        let mut joined = Box::pin(async move { kept.await.is_err() });
        let joiner = runtime.spawn(async move { joined.as_mut().await });
        calls("spawn again");
        drop(joiner);
        // A turn is bounded, and tasks that it leaves ready make another one due.
        let n = Rc::new(Cell::new(0));
        for _ in 0..300 {
            let n = n.clone();
            drop(runtime.spawn(async move { n.set(n.get() + 1) }));
        }
        runtime.turn(LOOK, Duration::ZERO).unwrap();
        assert!(n.get() < 300);
        calls("left over");
        assert_eq!(n.get(), 300);
    }
}

/// A socket that belongs to the test.
struct Socket(UnixStream);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watched for Socket {
    fn is_latest(&self, _: Token) -> bool {
        true
    }
}

fn register(socket: &Arc<Socket>) -> Token {
    with_reactor(|reactor| reactor.register(socket.clone())).unwrap().unwrap()
}

#[test]
fn a_turn_without_a_wait_does_not_spin() {
    let limit = Duration::from_millis(200);
    let runtime = Builder::new().spin(limit).build().unwrap();
    let start = Instant::now();
    for _ in 0..5 {
        turn(&runtime);
    }
    assert!(start.elapsed() < limit, "{:?} for five turns", start.elapsed());
}

#[test]
fn a_duplicate_of_the_descriptor_is_not_readable_after_the_runtime_is_dropped() {
    for runtime in watchable() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let socket = Arc::new(Socket(one));
        runtime.enter(|| register(&socket));
        let handle = runtime.handle();
        let duplicate: OwnedFd = runtime.pollable_fd().unwrap().try_clone_to_owned().unwrap();
        let mut host = Host::watch(duplicate.as_fd());
        other.write_all(b"x").unwrap();
        assert!(host.is_called());
        thread::spawn(move || handle.call_soon(|| ())).join().unwrap();
        drop(runtime);
        assert!(!host.is_called(), "the socket still exists, but is not registered");
        drop(socket);
    }
}
