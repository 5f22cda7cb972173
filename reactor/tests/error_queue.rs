//! Errors that the kernel queues until the program reads them (`IP_RECVERR`): a loop that does not read them does
//! not spin, and a task that reads them gets them.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use polyloop_reactor::conformance::{keep_errors, take_kept_error};
use polyloop_reactor::{
    Backend, Collected, Direction, Outlook, Reactor, Token, WaiterKey, Watched,
};

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

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task that waits for the socket, and its operation when it is woken.
struct Task<F> {
    key: Option<WaiterKey>,
    flag: Arc<Flag>,
    operation: F,
}

impl<F: FnMut(&UdpSocket) -> io::Result<()>> Task<F> {
    fn new(operation: F) -> Task<F> {
        Task { key: None, flag: Arc::default(), operation }
    }

    /// Tries until the operation would block or succeeds; other errors are retried.
    fn poll(&mut self, reactor: &mut Reactor, token: Token, socket: &Socket) -> bool {
        loop {
            let mut waker = Some(Waker::from(Arc::clone(&self.flag)));
            let read = Direction::Read;
            match reactor.poll_ready(token, read, &mut self.key, &mut waker).unwrap() {
                Outlook::Blocks => return false,
                _ => match (self.operation)(&socket.0) {
                    Ok(()) => {
                        if let Some(key) = self.key.take() {
                            drop(reactor.forget(token, read, key));
                        }
                        return true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        reactor.clear_ready(token, read);
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
                },
            }
        }
    }

    fn was_woken(&self) -> bool {
        self.flag.0.swap(false, Ordering::Relaxed)
    }
}

fn receive(socket: &UdpSocket) -> io::Result<()> {
    socket.recv(&mut [0; 8]).map(drop)
}

fn turn(reactor: &mut Reactor, collected: &mut Collected) {
    reactor.turn(Some(Duration::from_millis(20)), collected).unwrap();
    collected.wake_all();
}

/// Makes a socket with a queued error, caused by an unused port, and one to send to it from.
fn socket_with_an_error() -> (Arc<Socket>, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    keep_errors(socket.as_fd()).unwrap();
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.send_to(b"x", unused).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    (Arc::new(Socket(socket)), sender)
}

#[test]
fn an_unread_error_queue_neither_makes_a_loop_spin_nor_hides_datagrams() {
    for &backend in Backend::available() {
        let (socket, sender) = socket_with_an_error();
        let mut reactor = Reactor::new(backend.open().unwrap(), 0, 0);
        let token = reactor.register(Arc::clone(&socket) as Arc<dyn Watched>).unwrap();
        let mut collected = Collected::default();
        for _ in 0..3 {
            let mut task = Task::new(receive);
            assert!(!task.poll(&mut reactor, token, &socket));
            let (start, mut n_turns) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(300) {
                turn(&mut reactor, &mut collected);
                n_turns += 1;
                if task.was_woken() {
                    assert!(!task.poll(&mut reactor, token, &socket));
                }
            }
            // 64 until it is noticed, then two per back-off.
            assert!(n_turns < 300, "{backend}: {n_turns} turns");

            sender.send(b"y").unwrap();
            while !task.was_woken() || !task.poll(&mut reactor, token, &socket) {
                turn(&mut reactor, &mut collected);
            }
        }
        // The program can still read it.
        take_kept_error(socket.as_fd()).unwrap();
        let error = take_kept_error(socket.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_task_that_waits_for_errors_gets_them_beside_one_that_receives() {
    for &backend in Backend::available() {
        let (socket, _sender) = socket_with_an_error();
        let mut reactor = Reactor::new(backend.open().unwrap(), 0, 0);
        let token = reactor.register(Arc::clone(&socket) as Arc<dyn Watched>).unwrap();
        let mut collected = Collected::default();
        let mut receivers: Vec<_> = (0..3).map(|_| Task::new(receive)).collect();
        // All of them wait, or the operation would find the error at once.
        for receiver in &mut receivers {
            assert!(!receiver.poll(&mut reactor, token, &socket));
        }
        let mut watcher = Task::new(|socket: &UdpSocket| take_kept_error(socket.as_fd()));
        let mut has_it = watcher.poll(&mut reactor, token, &socket);
        let start = Instant::now();
        while !has_it {
            turn(&mut reactor, &mut collected);
            for receiver in &mut receivers {
                if receiver.was_woken() {
                    assert!(!receiver.poll(&mut reactor, token, &socket));
                }
            }
            has_it = watcher.was_woken() && watcher.poll(&mut reactor, token, &socket);
            assert!(start.elapsed() < Duration::from_secs(10), "{backend}: the error is lost");
        }
    }
}
