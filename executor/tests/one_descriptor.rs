//! Aim: a host that watches the runtime's descriptors needs nothing else: no deadline and no timer.

mod util;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use polyloop_executor::{
    Builder, NextTurn, Runtime, call_later, channel, poll_source, sleep, spawn, with_reactor,
    yield_now,
};
use polyloop_reactor::{
    Backend, Direction, Events, Interest, Mode, PollableFd, Selector, Token, Watched,
};

use util::with_watchdog;

const LIMIT: Duration = Duration::from_secs(60);

const LOOK: Option<Duration> = Some(Duration::ZERO);

fn runtimes() -> impl Iterator<Item = Runtime> {
    Backend::available().iter().map(|backend| Builder::new().backend(*backend).build().unwrap())
}

/// The backends whose descriptor a host can watch.
fn watchable() -> impl Iterator<Item = Runtime> {
    runtimes().filter(|runtime| runtime.pollable_fd().is_ok())
}

/// A host's loop that waits for one descriptor only.
struct Host(Box<dyn Selector>, Events);

impl Host {
    fn watch(backend: Backend, mode: Mode, fd: BorrowedFd<'_>) -> Host {
        let mut selector = backend.open().unwrap();
        selector.register(fd, Token::new(0, 0, 0), Interest::READABLE, mode).unwrap();
        Host(selector, Events::with_capacity(8))
    }

    /// Waits up to `timeout`. Returns `true` if a turn is due.
    fn wait(&mut self, timeout: Duration) -> bool {
        self.0.select(&mut self.1, Some(timeout)).unwrap();
        !self.1.is_empty()
    }

    /// The integration of the runtime. Returns the number of turns.
    fn drive(&mut self, runtime: &Runtime, budget: Duration, is_done: impl Fn() -> bool) -> usize {
        let mut n_turns = 0;
        while !is_done() {
            assert!(self.wait(LIMIT), "the host was not woken");
            runtime.turn(LOOK, budget).unwrap();
            n_turns += 1;
        }
        n_turns
    }
}

/// Each kind of host loop, and the modes in which it can watch.
fn hosts() -> Vec<(Backend, Mode)> {
    let all = Backend::available().iter().copied();
    let is_library = |backend| backend == Backend::Kqueue && cfg!(target_os = "linux");
    all.filter(|backend| !is_library(*backend))
        .flat_map(|backend| [(backend, Mode::Level), (backend, Mode::Edge)])
        .filter(|(backend, mode)| backend.open().unwrap().supports(*mode))
        .collect()
}

/// A host that gets the list of descriptors before each wait.
struct ListHost(Vec<PollableFd>);

impl ListHost {
    /// Waits up to `timeout`. Returns `true` if a turn is due.
    fn wait(&mut self, runtime: &Runtime, timeout: Duration) -> bool {
        runtime.pollable_fds(&mut self.0).unwrap();
        let mut poll = mio::Poll::new().unwrap();
        for watched in &self.0 {
            let interest = match (watched.interest.is_readable(), watched.interest.is_writable()) {
                (true, true) => mio::Interest::READABLE | mio::Interest::WRITABLE,
                (false, true) => mio::Interest::WRITABLE,
                _ => mio::Interest::READABLE,
            };
            let token = mio::Token(watched.fd as usize);
            poll.registry().register(&mut SourceFd(&watched.fd), token, interest).unwrap();
        }
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, Some(timeout)).unwrap();
        !events.is_empty()
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

/// Waits until data can be read, without reading it.
async fn readable(socket: Arc<Socket>) {
    let token = with_reactor(|reactor| reactor.register(socket.clone())).unwrap().unwrap();
    with_reactor(|reactor| reactor.clear_ready(token, Direction::Read)).unwrap();
    let mut key = None;
    poll_fn(|cx| poll_source(token, Direction::Read, &mut key, cx)).await.unwrap();
    polyloop_executor::release_source(token);
}

/// Triggers each reason for a turn, one after the other. `wait` is the host's wait.
fn hear_of_everything(runtime: &Runtime, mut wait: impl FnMut(Duration) -> bool) {
    let mut expect = |why: &str, is_done: &dyn Fn() -> bool| {
        let mut n_turns = 0;
        while !is_done() {
            assert!(wait(LIMIT), "{why}: the host was not woken");
            runtime.turn(LOOK, Duration::from_millis(1)).unwrap();
            n_turns += 1;
            assert!(n_turns < 1_000, "{why}: the host spins");
        }
        let mut n_left = 0;
        while wait(Duration::ZERO) {
            runtime.turn(LOOK, Duration::from_millis(1)).unwrap();
            n_left += 1;
            assert!(n_left < 5, "{why}: the descriptor stays readable");
        }
    };

    let task = runtime.spawn(async { yield_now().await });
    expect("spawn", &|| task.is_finished());

    let task = runtime.enter(|| spawn(sleep(Duration::from_millis(5))));
    expect("timer", &|| task.is_finished());

    // Earlier than the current one, and later than a cancelled one.
    let far = runtime.spawn(sleep(Duration::from_secs(3_600)));
    let task = runtime.spawn(sleep(Duration::from_millis(5)));
    let gone = runtime.spawn(sleep(Duration::from_millis(2)));
    expect("timers", &|| far.is_finished() || task.is_finished());
    gone.abort();
    let task = runtime.spawn(sleep(Duration::from_millis(10)));
    let gone = runtime.spawn(sleep(Duration::from_millis(5)));
    runtime.turn(LOOK, Duration::MAX).unwrap();
    gone.abort();
    expect("a timer after a cancelled one", &|| task.is_finished());

    let called = Rc::new(Cell::new(false));
    let seen = called.clone();
    let _call = runtime.enter(|| call_later(Duration::from_millis(3), move || seen.set(true)));
    expect("call_later of the host", &|| called.get());

    let (sender, mut receiver) = channel::unbounded::<u32>();
    let task = runtime.spawn(async move { receiver.recv().await });
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        sender.send(1).unwrap();
    });
    expect("message", &|| task.is_finished());
    thread.join().unwrap();

    let handle = runtime.handle();
    let called = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = called.clone();
    let done = move || seen.store(true, std::sync::atomic::Ordering::Relaxed);
    let thread = thread::spawn(move || handle.call_later(Duration::from_millis(5), done));
    expect("call_later of a thread", &|| called.load(std::sync::atomic::Ordering::Relaxed));
    thread.join().unwrap();

    let (one, mut other) = UnixStream::pair().unwrap();
    let task = runtime.spawn(readable(Arc::new(Socket(one))));
    runtime.turn(LOOK, Duration::MAX).unwrap();
    let thread = thread::spawn(move || {
        thread::sleep(Duration::from_millis(5));
        other.write_all(b"x").unwrap();
        other
    });
    expect("socket", &|| task.is_finished());
    drop(thread.join().unwrap());

    let n = Rc::new(Cell::new(0));
    for _ in 0..20 {
        let n = n.clone();
        drop(runtime.spawn(async move {
            thread::sleep(Duration::from_millis(1));
            n.set(n.get() + 1);
        }));
    }
    expect("tasks left by a turn", &|| n.get() == 20);

    // A block_on in between hides nothing from the host.
    let task = runtime.spawn(sleep(Duration::from_millis(5)));
    runtime.block_on(sleep(Duration::from_millis(1))).unwrap();
    expect("a timer left by a block_on", &|| task.is_finished());
    drop(far);
}

#[test]
fn a_host_with_one_descriptor_is_notified_of_everything() {
    with_watchdog(LIMIT, || {
        for (backend, mode) in hosts() {
            for runtime in watchable() {
                let mut host = Host::watch(backend, mode, runtime.pollable_fd().unwrap());
                hear_of_everything(&runtime, |timeout| host.wait(timeout));
            }
        }
    });
}

#[test]
fn a_host_with_the_list_is_notified_of_everything_on_every_backend() {
    with_watchdog(LIMIT, || {
        for runtime in runtimes() {
            let mut fds = Vec::new();
            if let Err(error) = runtime.pollable_fds(&mut fds) {
                assert_eq!(runtime.backend(), Backend::Kqueue, "{error}");
                continue;
            }
            let mut host = ListHost(fds);
            hear_of_everything(&runtime, |timeout| host.wait(&runtime, timeout));
        }
    });
}

#[test]
fn the_list_has_exactly_the_registered_descriptors() {
    for runtime in runtimes() {
        let mut fds = vec![PollableFd { fd: 0, interest: Interest::READABLE }; 3];
        if runtime.pollable_fds(&mut fds).is_err() {
            continue;
        }
        let n_before = fds.len();
        let (one, _other) = UnixStream::pair().unwrap();
        let socket = Arc::new(Socket(one));
        let task = runtime.spawn(readable(socket.clone()));
        runtime.turn(LOOK, Duration::MAX).unwrap();
        runtime.pollable_fds(&mut fds).unwrap();
        if matches!(runtime.backend(), Backend::Select | Backend::Poll) {
            // The wake-up descriptor and the timer, and now the socket.
            assert_eq!((n_before, fds.len()), (2, 3));
            use std::os::fd::AsRawFd;
            let number = socket.as_fd().as_raw_fd();
            let found = fds.iter().find(|watched| watched.fd == number).unwrap();
            assert_eq!(found.interest, Interest::READABLE);
        } else {
            assert_eq!((n_before, fds.len()), (1, 1));
        }
        drop(task);
    }
}

#[test]
fn a_timer_that_is_moved_or_cancelled_costs_at_most_one_spurious_turn() {
    with_watchdog(LIMIT, || {
        for runtime in watchable() {
            let mut host = Host::watch(Backend::Poll, Mode::Level, runtime.pollable_fd().unwrap());
            for _ in 0..100 {
                let gone = runtime.spawn(sleep(Duration::from_millis(5)));
                runtime.turn(LOOK, Duration::MAX).unwrap();
                gone.abort();
            }
            assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
            let mut n_turns = 0;
            while host.wait(Duration::from_millis(50)) {
                runtime.turn(LOOK, Duration::MAX).unwrap();
                n_turns += 1;
            }
            assert!(n_turns <= 1, "{n_turns} spurious turns");
            // Nor in a wait of the loop itself.
            drop(runtime.spawn(pending::<()>()));
            let gone = runtime.spawn(sleep(Duration::from_millis(1)));
            runtime.turn(LOOK, Duration::MAX).unwrap();
            gone.abort();
            let n_waits = || runtime.enter(|| polyloop_executor::metrics().waits);
            let before = n_waits();
            runtime.block_on(sleep(Duration::from_millis(50))).unwrap();
            assert!(n_waits() - before <= 4, "{} waits", n_waits() - before);
        }
    });
}

#[test]
fn a_task_that_a_host_spawned_is_announced_although_the_host_panicked() {
    for runtime in watchable() {
        let backend = runtime.backend();
        let has_run = Rc::new(Cell::new(false));
        let set = has_run.clone();
        let fd = runtime.pollable_fd().unwrap();
        let mut host = Host::watch(Backend::Poll, Mode::Level, fd.as_fd());
        runtime.turn(LOOK, Duration::MAX).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            runtime.enter(|| {
                spawn(async move { set.set(true) });
                panic!("of the host")
            })
        }));
        assert!(panicked.is_err());
        assert!(host.wait(LIMIT), "{backend:?}");
        runtime.turn(LOOK, Duration::MAX).unwrap();
        assert!(has_run.get(), "{backend:?}");
    }
}

#[test]
fn tasks_that_the_main_futures_destructors_wake_are_announced() {
    for runtime in watchable() {
        let backend = runtime.backend();
        let (sender, mut receiver) = channel::local::unbounded::<()>();
        let task = runtime.spawn(async move { receiver.recv().await });
        let fd = runtime.pollable_fd().unwrap();
        let mut host = Host::watch(Backend::Poll, Mode::Level, fd.as_fd());
        runtime.turn(LOOK, Duration::MAX).unwrap();
        // The sender is dropped with the future, after its completion.
        let main = poll_fn(move |_| {
            let _ = &sender;
            Poll::Ready(())
        });
        runtime.block_on(main).unwrap();
        assert!(host.wait(LIMIT), "{backend:?}");
        runtime.turn(LOOK, Duration::MAX).unwrap();
        assert!(task.is_finished(), "{backend:?}");
    }
}

#[test]
fn the_timer_of_a_pollable_descriptor_ends_with_the_runtime() {
    for runtime in watchable() {
        let duplicate = runtime.pollable_fd().unwrap().try_clone_to_owned().unwrap();
        drop(runtime.spawn(sleep(Duration::from_millis(1))));
        runtime.turn(LOOK, Duration::MAX).unwrap();
        drop(runtime);
        let mut host = Host::watch(Backend::Poll, Mode::Level, duplicate.as_fd());
        assert!(!host.wait(Duration::from_millis(20)));
    }
}

#[test]
fn select_and_poll_report_a_list_and_no_descriptor() {
    for backend in [Backend::Select, Backend::Poll] {
        let runtime = Builder::new().backend(backend).build().unwrap();
        let error = runtime.pollable_fd().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("pollable_fds"), "{error}");
        assert!(error.to_string().contains(backend.name()), "{error}");
    }
}

#[test]
fn a_due_timer_makes_the_descriptor_readable_and_not_before() {
    with_watchdog(LIMIT, || {
        for (backend, mode) in hosts() {
            for runtime in watchable() {
                let mut host = Host::watch(backend, mode, runtime.pollable_fd().unwrap());
                let start = Instant::now();
                let task = runtime.spawn(async {
                    for _ in 0..5 {
                        sleep(Duration::from_millis(4)).await;
                        spawn(yield_now()).await.unwrap();
                    }
                });
                let n_turns = host.drive(&runtime, Duration::MAX, || task.is_finished());
                assert!(start.elapsed() >= Duration::from_millis(20));
                // One to start, and up to two per timer, because the first may be slightly early.
                assert!(n_turns <= 11, "{n_turns} turns for five timers: the host does not sleep");
            }
        }
    });
}

/// A datagram socket that belongs to the test.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct Datagrams(std::net::UdpSocket);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Watched for Datagrams {
    fn is_latest(&self, _: Token) -> bool {
        true
    }
}

/// A source whose reported error no operation returns is paused; meanwhile it is not in the list.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_host_is_notified_when_a_paused_source_is_registered_again() {
    use std::io::ErrorKind;
    use std::net::UdpSocket;

    use polyloop_executor::{Tried, note_io};
    use polyloop_reactor::conformance::keep_errors;

    async fn receive(socket: Arc<Datagrams>) {
        let token = with_reactor(|reactor| reactor.register(socket.clone())).unwrap().unwrap();
        let mut key = None;
        loop {
            poll_fn(|cx| poll_source(token, Direction::Read, &mut key, cx)).await.unwrap();
            match socket.0.recv(&mut [0; 8]) {
                Ok(_) => return polyloop_executor::release_source(token),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    note_io(token, Direction::Read, Tried::WouldBlock);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
            }
        }
    }

    with_watchdog(LIMIT, || {
        for backend in [Backend::Select, Backend::Poll] {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            keep_errors(socket.as_fd()).unwrap();
            let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            socket.send_to(b"x", unused).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.connect(socket.local_addr().unwrap()).unwrap();

            let runtime = Builder::new().backend(backend).build().unwrap();
            let mut host = ListHost(Vec::new());
            runtime.pollable_fds(&mut host.0).unwrap();
            let task = runtime.spawn(receive(Arc::new(Datagrams(socket))));
            // Until the error is noticed.
            while !matches!(runtime.next_turn(), NextTurn::At(_)) {
                runtime.turn(LOOK, Duration::MAX).unwrap();
            }
            sender.send(b"y").unwrap();
            while !task.is_finished() {
                assert!(host.wait(&runtime, LIMIT), "{backend}: the host was not woken");
                runtime.turn(LOOK, Duration::MAX).unwrap();
            }
        }
    });
}
