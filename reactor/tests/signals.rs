//! Listeners for signals: each is notified, and the last one restores the disposition.
//!
//! A separate test program, because signals reach the whole process. The tests run one at a time.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use polyloop_reactor::conformance::{disposition, ignore, raise};
use polyloop_reactor::{Events, Interest, Mode, SignalFd, Token, WakeFd, default_selector};

static TURN: Mutex<()> = Mutex::new(());

/// Listens until the process ends. The last signal of a test may reach another thread after the test's listeners
/// are dropped, and would end the process without this one.
static LISTENER: LazyLock<SignalFd> =
    LazyLock::new(|| SignalFd::listen(SignalFd::USER1).expect("a descriptor is free"));

fn take_turn() -> MutexGuard<'static, ()> {
    LazyLock::force(&LISTENER);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A signal to this process may be handled by another thread, a little later.
fn wait_for(signal: &SignalFd) {
    let mut selector = default_selector().unwrap();
    let mut events = Events::with_capacity(8);
    let fd = signal.as_fd();
    selector.register(fd, Token::from_raw(1), Interest::READABLE, Mode::Level).unwrap();
    while events.is_empty() {
        selector.select(&mut events, Some(Duration::from_secs(10))).unwrap();
    }
}

#[test]
fn a_signal_makes_its_listener_readable_once() {
    let _turn = take_turn();
    let signal = SignalFd::listen(SignalFd::USER1).unwrap();
    assert!(!signal.take().unwrap());
    for _ in 0..3 {
        raise(SignalFd::USER1).unwrap();
        wait_for(&signal);
        assert!(signal.take().unwrap());
        assert!(!signal.take().unwrap());
    }
}

#[test]
fn a_burst_is_reported_at_least_once_and_never_blocks() {
    let _turn = take_turn();
    let signal = SignalFd::listen(SignalFd::USER1).unwrap();
    for _ in 0..100_000 {
        raise(SignalFd::USER1).unwrap();
    }
    wait_for(&signal);
    assert!(signal.take().unwrap());
}

#[test]
fn every_listener_is_notified() {
    let _turn = take_turn();
    let first = SignalFd::listen(SignalFd::USER1).unwrap();
    let second = SignalFd::listen(SignalFd::USER1).unwrap();
    let other = SignalFd::listen(SignalFd::USER2).unwrap();
    raise(SignalFd::USER1).unwrap();
    for signal in [&first, &second] {
        wait_for(signal);
        assert!(signal.take().unwrap());
    }
    assert!(!other.take().unwrap());
    drop(first);
    raise(SignalFd::USER1).unwrap();
    wait_for(&second);
    assert!(second.take().unwrap());
}

#[test]
fn the_former_disposition_is_restored_with_the_last_listener() {
    let _turn = take_turn();
    ignore(SignalFd::USER2).unwrap();
    let before = disposition(SignalFd::USER2).unwrap();
    for _ in 0..3 {
        let first = SignalFd::listen(SignalFd::USER2).unwrap();
        let ours = disposition(SignalFd::USER2).unwrap();
        assert_ne!(ours, before);
        let second = SignalFd::listen(SignalFd::USER2).unwrap();
        drop(first);
        assert_eq!(disposition(SignalFd::USER2).unwrap(), ours);
        drop(second);
        assert_eq!(disposition(SignalFd::USER2).unwrap(), before);
        raise(SignalFd::USER2).unwrap();
    }
}

#[test]
fn a_handler_that_came_after_ours_is_left_alone() {
    let _turn = take_turn();
    let signal = SignalFd::listen(SignalFd::IO).unwrap();
    ignore(SignalFd::IO).unwrap();
    let theirs = disposition(SignalFd::IO).unwrap();
    drop(signal);
    assert_eq!(disposition(SignalFd::IO).unwrap(), theirs);
}

#[test]
fn a_signal_pending_when_its_listener_is_dropped_is_harmless() {
    let _turn = take_turn();
    let stays = SignalFd::listen(SignalFd::USER1).unwrap();
    for _ in 0..200 {
        let goes = SignalFd::listen(SignalFd::USER1).unwrap();
        raise(SignalFd::USER1).unwrap();
        drop(goes);
    }
    wait_for(&stays);
    assert!(stays.take().unwrap());
}

#[test]
fn no_handler_writes_to_the_next_owner_of_a_descriptor() {
    let _turn = take_turn();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    raise(SignalFd::USER1).unwrap();
                }
            });
        }
        for _ in 0..2_000 {
            drop(SignalFd::listen(SignalFd::USER1).unwrap());
            // Has the number that the listener had.
            let heir = WakeFd::new().unwrap();
            for _ in 0..20 {
                assert!(!heir.drain().unwrap(), "a handler wrote to the next owner");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn signals_that_cannot_be_listened_for_are_refused() {
    let _turn = take_turn();
    let sigkill = 9;
    let sigsegv = 11;
    for signum in [sigkill, sigsegv, 0, -1, 1_000] {
        let error = SignalFd::listen(signum).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signum}");
        assert!(error.to_string().contains(&signum.to_string()), "{error}");
    }
}

#[test]
fn hundreds_of_listeners_receive_a_signal_and_leave_nothing_behind() {
    // macOS gives a process 256 descriptors, and a listener takes two there.
    let n_listeners = if cfg!(target_os = "linux") { 400 } else { 100 };
    let _turn = take_turn();
    let before = disposition(SignalFd::WINDOW_CHANGE).unwrap();
    for _ in 0..3 {
        let listen = |_| SignalFd::listen(SignalFd::WINDOW_CHANGE).unwrap();
        let mut listeners: Vec<_> = (0..n_listeners).map(listen).collect();
        let other = SignalFd::listen(SignalFd::USER2).unwrap();
        // Some are dropped, also from the middle, and others are added.
        listeners.swap_remove(n_listeners / 2);
        listeners.pop();
        listeners.extend((0..2).map(listen));
        raise(SignalFd::WINDOW_CHANGE).unwrap();
        for listener in &listeners {
            wait_for(listener);
            assert!(listener.take().unwrap());
        }
        assert!(!other.take().unwrap());
        drop(listeners);
        assert_eq!(disposition(SignalFd::WINDOW_CHANGE).unwrap(), before);
    }
}

#[test]
fn a_read_is_resumed_after_a_signal() {
    let _turn = take_turn();
    let signal = SignalFd::listen(SignalFd::USER1).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(1));
                raise(SignalFd::USER1).unwrap();
            }
            drop(writer);
        });
        // Not interrupted: `read` is called once and returns the end of the pipe.
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    });
    assert!(signal.take().unwrap());
}

#[test]
fn listeners_created_and_dropped_while_signals_arrive_are_notified_and_leave_nothing_behind() {
    let _turn = take_turn();
    // A signal that is ignored without a listener.
    let signum = SignalFd::CONTINUE;
    let before = disposition(signum).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    raise(signum).unwrap();
                }
            });
        }
        for _ in 0..500 {
            let signal = SignalFd::listen(signum).unwrap();
            // The threads never stop raising it.
            wait_for(&signal);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    raise(signum).unwrap();
    assert_eq!(disposition(signum).unwrap(), before);
}
