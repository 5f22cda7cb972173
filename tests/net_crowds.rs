//! Many tasks that wait for one socket: the cost of an event does not depend on their number.

mod common;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use polyloop::net::{TcpListener, TcpStream, UdpSocket};
use polyloop::runtime::metrics;
use polyloop::{Backend, Runtime, spawn, yield_now};

use common::{TIME_LIMIT, run_on};

backends!(
    the_cost_of_an_event_does_not_depend_on_the_number_of_waiters,
    the_cost_of_a_refused_datagram_does_not_depend_on_the_number_of_waiters,
    each_of_many_acceptors_gets_a_connection,
    the_end_of_a_stream_wakes_all_readers,
    a_receiver_that_is_woken_and_dropped_passes_the_datagram_on,
);

/// Makes `n_tasks` wait for datagrams on one socket, sends `n_events`, and returns the number of polls and
/// receives.
async fn cost(n_tasks: usize, n_events: usize) -> (u64, u64) {
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).await.unwrap();
    let n_received = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..n_tasks)
        .map(|number| {
            let (socket, n_received) = (Rc::clone(&socket), Rc::clone(&n_received));
            spawn(async move {
                let n_bytes = socket.recv(&mut [0; 16]).await.unwrap();
                assert_eq!(n_bytes, 2);
                assert_eq!(n_received.replace(number + 1), number, "first come, first served");
            })
        })
        .collect();
    while metrics().polls < n_tasks as u64 {
        yield_now().await;
    }
    yield_now().await;
    let before = metrics();
    for number in 1..=n_events {
        sender.send(b"hi").await.unwrap();
        while n_received.get() < number {
            yield_now().await;
        }
    }
    let after = metrics();
    drop(tasks);
    (after.polls - before.polls, after.io_calls - before.io_calls)
}

fn the_cost_of_an_event_does_not_depend_on_the_number_of_waiters(backend: Backend) {
    const N_EVENTS: usize = 50;
    for n_tasks in [100, 100_000] {
        let (n_polls, n_io_calls) = run_on(backend, cost(n_tasks, N_EVENTS));
        // The main task yields until the loop has polled for events: 128 polls.
        assert!(n_polls <= 400 * N_EVENTS as u64, "{n_tasks} tasks: {n_polls} polls");
        // A send, a receive, and a receive that would block.
        assert!(n_io_calls <= 4 * N_EVENTS as u64, "{n_tasks} tasks: {n_io_calls} calls");
    }
}

/// Makes `n_tasks` wait on one connected socket, sends `n_datagrams` to an unused port, and returns the number
/// of polls and receives.
async fn cost_of_refusals(n_tasks: usize, n_datagrams: usize) -> (u64, u64) {
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    // Bound and closed, so that the port is unused for a while.
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.connect(unused).await.unwrap();
    let n_refused = Rc::new(Cell::new(0));
    let tasks: Vec<_> = (0..n_tasks)
        .map(|_| {
            let (socket, n_refused) = (Rc::clone(&socket), Rc::clone(&n_refused));
            spawn(async move {
                let error = socket.recv(&mut [0; 16]).await.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
                n_refused.set(n_refused.get() + 1);
            })
        })
        .collect();
    while metrics().polls < n_tasks as u64 {
        yield_now().await;
    }
    yield_now().await;
    let before = metrics();
    for number in 1..=n_datagrams {
        socket.send(b"hi").await.unwrap();
        while n_refused.get() < number {
            yield_now().await;
        }
    }
    let after = metrics();
    drop(tasks);
    (after.polls - before.polls, after.io_calls - before.io_calls)
}

fn the_cost_of_a_refused_datagram_does_not_depend_on_the_number_of_waiters(backend: Backend) {
    const N_DATAGRAMS: usize = 20;
    for n_tasks in [100, 100_000] {
        let (n_polls, n_io_calls) = run_on(backend, cost_of_refusals(n_tasks, N_DATAGRAMS));
        // The main task yields until the loop has polled for events: 128 polls.
        assert!(n_polls <= 400 * N_DATAGRAMS as u64, "{n_tasks} tasks: {n_polls} polls");
        assert!(n_io_calls <= 16 * N_DATAGRAMS as u64, "{n_tasks} tasks: {n_io_calls} calls");
    }
}

fn each_of_many_acceptors_gets_a_connection(backend: Backend) {
    run_on(backend, async {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let addr = listener.local_addr().unwrap();
        let acceptors: Vec<_> = (0..50)
            .map(|_| {
                let listener = Rc::clone(&listener);
                spawn(async move { listener.accept().await.unwrap() })
            })
            .collect();
        yield_now().await;
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(TcpStream::connect(addr).await.unwrap());
        }
        for acceptor in acceptors {
            acceptor.await.unwrap();
        }
    });
}

fn the_end_of_a_stream_wakes_all_readers(backend: Backend) {
    run_on(backend, async {
        let (stream, peer) = polyloop::net::UnixStream::pair().unwrap();
        let stream = Rc::new(stream);
        let readers: Vec<_> = (0..50)
            .map(|_| {
                let stream = Rc::clone(&stream);
                spawn(async move { stream.read(&mut [0; 16]).await.unwrap() })
            })
            .collect();
        yield_now().await;
        drop(peer);
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 0);
        }
    });
}

fn a_receiver_that_is_woken_and_dropped_passes_the_datagram_on(backend: Backend) {
    run_on(backend, async {
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket.local_addr().unwrap()).await.unwrap();
        for _ in 0..200 {
            let receive = || {
                let socket = Rc::clone(&socket);
                spawn(async move { socket.recv(&mut [0; 16]).await.unwrap() })
            };
            let (first, second) = (receive(), receive());
            yield_now().await;
            sender.send(b"hi").await.unwrap();
            // Aborted some time around its wake.
            for _ in 0..fastrand::u32(..200) {
                yield_now().await;
            }
            first.abort();
            if first.await.is_ok() {
                sender.send(b"hi").await.unwrap();
            }
            assert_eq!(second.await.unwrap(), 2);
        }
    });
}

/// A host sleeps until the descriptor is readable or the deadline has passed. With edges, neither happens
/// again for a socket that has been reported and is still ready.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_host_does_not_sleep_before_all_waiters_are_served() {
    use polyloop::selectors::{Events, Interest, Mode, Token};

    let runtime = Runtime::builder().backend(Backend::Epoll).build().unwrap();
    let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let receive = |_| {
        let socket = Rc::clone(&socket);
        runtime.spawn(async move { socket.recv(&mut [0; 16]).await.unwrap() })
    };
    let tasks: Vec<_> = (0..20).map(receive).collect();
    runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        sender.send_to(b"hi", socket.local_addr().unwrap()).unwrap();
    }
    let mut poll = Backend::Poll.open().unwrap();
    let mut events = Events::with_capacity(8);
    let (fd, token) = (runtime.pollable_fd().unwrap(), Token::from_raw(1));
    poll.register(fd, token, Interest::READABLE, Mode::Level).unwrap();
    let start = Instant::now();
    while runtime.enter(|| !tasks.iter().all(|task| task.is_finished())) {
        let timeout = runtime.next_turn().timeout().unwrap_or(TIME_LIMIT);
        poll.select(&mut events, Some(timeout)).unwrap();
        runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
        assert!(start.elapsed() < TIME_LIMIT, "the host was not woken");
    }
}
