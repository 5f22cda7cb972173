//! A forked child cannot damage its parent's selector, and can create one.
//!
//! The only test of its file: a child has one thread, so as few other threads as possible should be active at
//! the fork.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use polyloop_reactor::conformance::{in_forked_child, raise};
use polyloop_reactor::{
    Backend, Events, Interest, Mode, Notifier, Readiness, Selector, SignalFd, Token,
};

const LOOK: Option<Duration> = Some(Duration::ZERO);

const A: Token = Token::from_raw(1);

/// Tries every operation, and reports whether all were refused with the reason.
fn is_all_refused(
    selector: &mut dyn Selector,
    registered: &UnixStream,
    other: &UnixStream,
    notifier: &Notifier,
) -> bool {
    let results = [
        selector.register(other.as_fd(), A, Interest::READABLE, Mode::Level),
        selector.modify(registered.as_fd(), A, Interest::WRITABLE, Mode::OneShot),
        selector.unregister(registered.as_fd()),
        selector.select(&mut Events::with_capacity(8), LOOK),
        notifier.notify(),
    ];
    results
        .into_iter()
        .all(|result| result.is_err_and(|error| error.to_string().contains("forked child")))
}

/// Creates a selector and uses it.
fn works_in_child(backend: Backend) -> bool {
    let (one, mut other) = UnixStream::pair().unwrap();
    let mut selector = backend.open().unwrap();
    let mut events = Events::with_capacity(8);
    selector.register(one.as_fd(), A, Interest::READABLE, Mode::Level).unwrap();
    other.write_all(b"x").unwrap();
    selector.select(&mut events, None).unwrap();
    let is_reported = events.iter().any(|event| event.readiness == Readiness::READABLE);
    selector.notifier().unwrap().notify().unwrap();
    selector.unregister(one.as_fd()).unwrap();
    selector.select(&mut events, None).unwrap();
    is_reported && events.is_empty()
}

#[test]
fn a_forked_child_is_refused_its_parents_selector_and_can_open_one() {
    for backend in Backend::available() {
        let mut selector = backend.open().unwrap();
        let notifier = selector.notifier().unwrap();
        let mut events = Events::with_capacity(8);
        let (one, mut other) = UnixStream::pair().unwrap();
        selector.register(one.as_fd(), A, Interest::READABLE, Mode::Level).unwrap();

        let child = || is_all_refused(&mut *selector, &one, &other, &notifier);
        assert_eq!(in_forked_child(child).unwrap(), 0, "{backend}: the child was not refused");
        // Dropping it in the child is harmless too.
        let mut moved = Some(selector);
        let child = || {
            drop(moved.take());
            true
        };
        assert_eq!(in_forked_child(child).unwrap(), 0, "{backend}");
        let mut selector = moved.take().unwrap();

        selector.select(&mut events, LOOK).unwrap();
        assert!(events.is_empty(), "{backend}: the child woke its parent");
        other.write_all(b"x").unwrap();
        selector.select(&mut events, None).unwrap();
        assert_eq!(events.len(), 1, "{backend}: the child changed its parent's set");

        let child = || works_in_child(*backend);
        assert_eq!(in_forked_child(child).unwrap(), 0, "{backend}: a new selector fails");
    }

    // A signal that is sent to the child is not the parent's.
    let signal = SignalFd::listen(SignalFd::USER1).unwrap();
    let child = || {
        raise(SignalFd::USER1).unwrap();
        let inherited = signal.take().is_err();
        let own = SignalFd::listen(SignalFd::USER1).unwrap();
        raise(SignalFd::USER1).unwrap();
        inherited && own.take().unwrap()
    };
    assert_eq!(in_forked_child(child).unwrap(), 0, "signals in the child");
    assert!(!signal.take().unwrap(), "the child's signal woke its parent");
    raise(SignalFd::USER1).unwrap();
    while !signal.take().unwrap() {
        std::thread::yield_now();
    }
}
