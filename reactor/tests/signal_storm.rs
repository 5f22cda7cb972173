//! Waits under a storm of signals: none fails, none ends early, and no event is lost.
//!
//! A separate test program, because the signals reach the whole process, and without the harness, because they
//! interrupt its main thread.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_reactor::conformance::alarm_every;
use polyloop_reactor::{Backend, Events, Interest, Mode, Selector, SignalFd, Token, WaitEnd};

/// Waits for an event or a deadline, as a loop does: a signal ends one wait without events.
fn wait_until(selector: &mut dyn Selector, events: &mut Events, deadline: Instant) -> u32 {
    let mut n_waits = 0;
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let start = Instant::now();
        selector.select(events, Some(rest)).expect("a signal is not an error");
        n_waits += 1;
        if events.wait_end() != WaitEnd::Signal {
            let is_over = start.elapsed() >= rest;
            let end = if events.is_empty() { WaitEnd::Timeout } else { WaitEnd::Event };
            assert_eq!(events.wait_end(), end);
            assert!(is_over || end == WaitEnd::Event, "early");
            return n_waits;
        }
        assert!(events.is_empty());
    }
}

/// A storm, until it is dropped.
struct Storm;

impl Storm {
    fn start() -> Storm {
        alarm_every(Duration::from_micros(100)).unwrap();
        Storm
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        alarm_every(Duration::ZERO).unwrap();
    }
}

fn a_signal_every_100_us_neither_fails_nor_lengthens_a_wait(backend: Backend) {
    let mut selector = backend.open().unwrap();
    let mut events = Events::with_capacity(8);
    let (one, mut other) = UnixStream::pair().unwrap();
    selector.register(one.as_fd(), Token::from_raw(1), Interest::READABLE, Mode::Level).unwrap();

    let start = Instant::now();
    let timeout = Duration::from_millis(300);
    let n_waits = wait_until(&mut *selector, &mut events, start + timeout);
    assert!(events.is_empty());
    assert!(start.elapsed() >= timeout, "early");
    assert!(start.elapsed() < 10 * timeout, "{:?}", start.elapsed());
    assert!(n_waits > 100, "the storm did not reach the wait: {n_waits} waits");

    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            other.write_all(b"x").unwrap();
        });
        wait_until(&mut *selector, &mut events, Instant::now() + Duration::from_secs(10));
    });
    assert_eq!(events.len(), 1, "the event was lost");
}

fn notifications_in_a_storm_leave_the_notifier_working(backend: Backend) {
    let mut selector = backend.open().unwrap();
    let mut events = Events::with_capacity(8);
    let notifier = selector.notifier().unwrap();
    let storm = Storm::start();
    thread::scope(|scope| {
        let notifying = scope.spawn(|| {
            for _ in 0..500 {
                notifier.notify().unwrap();
                thread::sleep(Duration::from_micros(20));
            }
        });
        while !notifying.is_finished() {
            selector.select(&mut events, Some(Duration::from_millis(1))).unwrap();
            assert!(events.is_empty());
        }
    });
    drop(storm);
    for _ in 0..3 {
        notifier.notify().unwrap();
        selector.select(&mut events, None).unwrap();
    }
    let start = Instant::now();
    selector.select(&mut events, Some(Duration::from_millis(20))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20), "a notification was reported twice");
}

fn main() {
    let alarms = SignalFd::listen(SignalFd::ALARM).unwrap();
    for &backend in Backend::available() {
        let storm = Storm::start();
        a_signal_every_100_us_neither_fails_nor_lengthens_a_wait(backend);
        drop(storm);
        notifications_in_a_storm_leave_the_notifier_working(backend);
        println!("{backend}: ok under a storm of signals");
    }
    assert!(alarms.take().unwrap());
}
