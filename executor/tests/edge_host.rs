//! Aim: an edge-triggered host is notified after a turn that took as many events as it could.
//!
//! The only test of its file: it opens thousands of descriptors, and select takes no large ones.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polyloop_executor::{Builder, Runtime, poll_source, spawn, with_reactor};
use polyloop_reactor::{Backend, Direction, Events, Interest, Mode, Token, Watched};

const LIMIT: Duration = Duration::from_secs(60);

const LOOK: Option<Duration> = Some(Duration::ZERO);

fn turn(runtime: &Runtime) {
    runtime.turn(LOOK, Duration::MAX).unwrap();
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
fn an_edge_triggered_host_is_notified_of_events_left_over_by_a_turn() {
    let Ok(mut outer) = Backend::Epoll.open() else { return };
    let runtime = Builder::new().backend(Backend::Epoll).build().unwrap();
    let pairs: Vec<_> = (0..2_100).map_while(|_| UnixStream::pair().ok()).collect();
    if pairs.len() < 2_100 {
        // The limit of descriptors is too low here.
        return;
    }
    let (ours, mut theirs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let ours: Vec<_> = ours.into_iter().map(|one| Arc::new(Socket(one))).collect();
    let seen = Rc::new(Cell::new(false));
    runtime.enter(|| {
        let tokens: Vec<_> = ours.iter().map(register).collect();
        // Only the last one is waited for.
        let (last, seen) = (*tokens.last().unwrap(), seen.clone());
        with_reactor(|reactor| reactor.clear_ready(last, Direction::Read)).unwrap();
        spawn(async move {
            let mut key = None;
            poll_fn(|cx| poll_source(last, Direction::Read, &mut key, cx)).await.unwrap();
            seen.set(true);
        });
    });
    for _ in 0..10 {
        turn(&runtime);
    }
    let fd = runtime.pollable_fd().unwrap();
    outer.register(fd, Token::new(0, 0, 0), Interest::READABLE, Mode::Edge).unwrap();
    let mut events = Events::with_capacity(8);
    outer.select(&mut events, LOOK).unwrap();
    theirs.iter_mut().for_each(|other| other.write_all(b"x").unwrap());
    let start = Instant::now();
    while !seen.get() {
        assert!(start.elapsed() < LIMIT, "the host is not notified");
        let timeout = runtime.next_turn().timeout();
        outer.select(&mut events, timeout.or(Some(Duration::from_millis(200)))).unwrap();
        if !events.is_empty() || runtime.next_turn().is_due() {
            turn(&runtime);
        } else {
            panic!("neither an edge nor a deadline although events are left");
        }
    }
}
