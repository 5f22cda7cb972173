//! Aim: a host drives polyloop turn by turn from its event loop, and misses nothing.

mod util;

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{Builder, NextTurn, Runtime, sleep, spawn, yield_now};
use polyloop_reactor::{Backend, Events, Interest, Mode, Token};

use util::with_watchdog;

const LIMIT: Duration = Duration::from_secs(60);

/// A host: watches the runtime's descriptor in a poll loop until `is_done`, and counts its turns.
fn host(runtime: &Runtime, is_done: impl Fn() -> bool) -> io::Result<usize> {
    let mut poll = Backend::Poll.open()?;
    let mut events = Events::with_capacity(8);
    poll.register(runtime.pollable_fd()?, Token::new(0, 0, 0), Interest::READABLE, Mode::Level)?;
    let mut n_turns = 0;
    let mut next = runtime.next_turn();
    while !is_done() {
        poll.select(&mut events, next.timeout())?;
        next = runtime.turn(Some(Duration::ZERO), Duration::MAX)?;
        n_turns += 1;
    }
    Ok(n_turns)
}

fn backends_with_a_descriptor() -> impl Iterator<Item = Backend> {
    let is_library = |backend| backend == Backend::Kqueue && cfg!(target_os = "linux");
    let all = Backend::available().iter().copied();
    all.filter(move |b| !matches!(b, Backend::Select | Backend::Poll) && !is_library(*b))
}

#[test]
fn a_host_runs_tasks_and_timers_and_sleeps_between_them() {
    with_watchdog(LIMIT, || {
        for backend in backends_with_a_descriptor() {
            let runtime = Builder::new().backend(backend).build().unwrap();
            let start = Instant::now();
            let task = runtime.spawn(async {
                for _ in 0..5 {
                    sleep(Duration::from_millis(4)).await;
                    spawn(yield_now()).await.unwrap();
                }
            });
            let n_turns = host(&runtime, || runtime.enter(|| task.is_finished())).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(20));
            assert!(n_turns < 100, "{n_turns} turns for five timers: the host does not sleep");
        }
    });
}

#[test]
fn a_wake_from_another_thread_reaches_a_host_that_sleeps() {
    with_watchdog(LIMIT, || {
        for backend in backends_with_a_descriptor() {
            let runtime = Builder::new().backend(backend).build().unwrap();
            let handle = runtime.handle();
            let n_calls = Rc::new(Cell::new(0));
            let n_seen = n_calls.clone();
            let (sender, mut receiver) = polyloop_executor::channel::unbounded::<u32>();
            runtime.spawn(async move {
                while receiver.recv().await.is_some() {
                    n_seen.set(n_seen.get() + 1);
                }
            });
            let thread = thread::spawn(move || {
                for i in 0..50 {
                    // Sometimes the host is already asleep.
                    if i % 10 == 0 {
                        thread::sleep(Duration::from_millis(2));
                    }
                    sender.send(i).unwrap();
                    handle.call_soon(|| ());
                }
            });
            host(&runtime, || n_calls.get() == 50).unwrap();
            thread.join().unwrap();
        }
    });
}

#[test]
fn the_descriptor_is_not_readable_when_there_is_nothing_to_do() {
    for backend in backends_with_a_descriptor() {
        let runtime = Builder::new().backend(backend).build().unwrap();
        let mut poll = Backend::Poll.open().unwrap();
        let mut events = Events::with_capacity(8);
        let fd = runtime.pollable_fd().unwrap();
        poll.register(fd, Token::new(0, 0, 0), Interest::READABLE, Mode::Level).unwrap();
        let mut is_readable = || {
            poll.select(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().next().is_some()
        };
        runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
        assert!(!is_readable() && runtime.next_turn() == NextTurn::OnEvent);
        let handle = runtime.handle();
        thread::spawn(move || handle.call_soon(|| ())).join().unwrap();
        assert!(is_readable() && runtime.next_turn().is_due());
        // One turn reads the message; the call is then ready or done.
        for _ in 0..2 {
            runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
        }
        assert!(!is_readable() && runtime.next_turn() == NextTurn::OnEvent);
    }
}

#[test]
fn the_next_turn_is_due_now_if_a_task_is_ready_or_else_at_the_earliest_timer() {
    let runtime = Runtime::new().unwrap();
    assert!(runtime.next_turn() == NextTurn::OnEvent);
    let before = Instant::now();
    runtime.spawn(sleep(Duration::from_secs(3_600)));
    assert_eq!(runtime.next_turn(), NextTurn::Now);
    let next = runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
    assert_eq!(runtime.next_turn(), next);
    let NextTurn::At(deadline) = next else { panic!("{next:?}") };
    assert!(deadline >= before + Duration::from_secs(3_600));
    assert!(deadline <= Instant::now() + Duration::from_secs(3_600));
}

#[test]
fn a_turn_waits_no_longer_than_its_timeout_and_block_on_works_after_it() {
    with_watchdog(LIMIT, || {
        for backend in Backend::available() {
            let runtime = Builder::new().backend(*backend).build().unwrap();
            drop(runtime.spawn(pending::<()>()));
            runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
            let start = Instant::now();
            runtime.turn(Some(Duration::from_millis(10)), Duration::MAX).unwrap();
            assert!(start.elapsed() >= Duration::from_millis(9));
            let slept = runtime.block_on(async {
                sleep(Duration::from_millis(1)).await;
                spawn(async { 7 }).await.unwrap()
            });
            assert_eq!(slept.unwrap(), 7);
        }
    });
}

#[test]
fn select_and_poll_have_no_descriptor_and_return_an_error() {
    for backend in [Backend::Select, Backend::Poll] {
        let runtime = Builder::new().backend(backend).build().unwrap();
        let error = runtime.pollable_fd().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(backend.name()), "{error}");
        // Driven by turns that wait.
        let task = runtime.spawn(sleep(Duration::from_millis(1)));
        while !runtime.enter(|| task.is_finished()) {
            runtime.turn(None, Duration::MAX).unwrap();
        }
    }
}

#[test]
fn two_runtimes_take_turns_on_one_thread() {
    let runtimes = [Runtime::new().unwrap(), Runtime::new().unwrap()];
    let n_turns = Rc::new(Cell::new(0));
    for runtime in &runtimes {
        let n_turns = n_turns.clone();
        runtime.spawn(async move {
            for _ in 0..10 {
                sleep(Duration::from_micros(100)).await;
                n_turns.set(n_turns.get() + 1);
            }
        });
    }
    while n_turns.get() < 20 {
        for runtime in &runtimes {
            runtime.turn(Some(Duration::from_micros(50)), Duration::MAX).unwrap();
        }
    }
}

#[test]
fn a_runtime_lends_the_same_descriptor_each_time() {
    let Some(backend) = backends_with_a_descriptor().next() else { return };
    let runtime = Builder::new().backend(backend).build().unwrap();
    let first = runtime.pollable_fd().unwrap().as_raw_fd();
    assert_eq!(first, runtime.pollable_fd().unwrap().as_raw_fd());
}
