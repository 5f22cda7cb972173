//! A program closes what a selector owns (a descriptor closed twice, a range of them): the selector
//! reports that, does not spin, and reads nothing from the next owner of the number.
//!
//! A file of its own with a single test, and each case in a forked child, since numbers are what
//! threads share.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use polyloop_reactor::conformance::{alarm_every, close_number, in_forked_child, open_numbers};
use polyloop_reactor::{
    Backend, Events, Interest, LostDescriptor, Mode, Selector, Token, WaitEnd, WakeFd,
};

const A: Token = Token::from_raw(1);
const SHORT: Option<Duration> = Some(Duration::from_millis(20));

/// A selector, and the number that it reads notifications from; with epoll that of the set.
fn open(backend: Backend) -> (Box<dyn Selector>, RawFd) {
    // The child ends if something hangs.
    alarm_every(Duration::from_secs(10)).unwrap();
    let before = open_numbers(64);
    let selector = backend.open().unwrap();
    selector.notifier().unwrap();
    let first = open_numbers(64).into_iter().find(|fd| !before.contains(fd)).unwrap();
    (selector, first)
}

/// Waits twice, and checks that each wait is over at once with the error.
fn is_lost(selector: &mut dyn Selector, fd: RawFd, is_replaced: bool) -> bool {
    let before = selector.system_calls().waits;
    for _ in 0..2 {
        let error = selector.select(&mut Events::with_capacity(8), SHORT).unwrap_err();
        let lost = error.get_ref().and_then(|inner| inner.downcast_ref::<LostDescriptor>());
        let lost = lost.unwrap_or_else(|| panic!("another error: {error}"));
        assert_eq!((lost.fd(), lost.is_replaced()), (fd, is_replaced));
    }
    selector.system_calls().waits - before <= 4
}

fn a_closed_number_is_reported(backend: Backend) -> bool {
    let (mut selector, fd) = open(backend);
    close_number(fd).unwrap();
    let outcome = is_lost(&mut *selector, fd, false);
    std::mem::forget(selector);
    outcome
}

fn data_of_the_next_owner_is_not_read(backend: Backend) -> bool {
    let (mut selector, fd) = open(backend);
    let (mut next, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"not ours").unwrap();
    close_number(fd).unwrap();
    next = next.try_clone().unwrap();
    assert_eq!(next.as_raw_fd(), fd);
    let outcome = is_lost(&mut *selector, fd, true);
    let mut data = [0; 8];
    next.read_exact(&mut data).unwrap();
    std::mem::forget(selector);
    outcome && data == *b"not ours"
}

/// An eventfd cannot be told from another by its inode.
fn a_notification_of_the_next_owner_is_not_read(backend: Backend) -> bool {
    let (mut selector, fd) = open(backend);
    close_number(fd).unwrap();
    let next = WakeFd::new().unwrap();
    assert_eq!(next.as_fd().as_raw_fd(), fd);
    next.raise().unwrap();
    let outcome = is_lost(&mut *selector, fd, true);
    std::mem::forget(selector);
    outcome && next.drain().unwrap()
}

/// Nothing tells that notifications go astray, but what is registered is served.
fn a_next_owner_that_is_not_ready_disturbs_nobody(backend: Backend) -> bool {
    let (mut selector, fd) = open(backend);
    let (one, mut other) = UnixStream::pair().unwrap();
    selector.register(one.as_fd(), A, Interest::READABLE, Mode::Level).unwrap();
    close_number(fd).unwrap();
    let next = other.try_clone().unwrap();
    assert_eq!(next.as_raw_fd(), fd);
    let mut events = Events::with_capacity(8);
    let before = selector.system_calls().waits;
    selector.select(&mut events, SHORT).unwrap();
    assert_eq!(events.wait_end(), WaitEnd::Timeout);
    other.write_all(b"x").unwrap();
    selector.select(&mut events, SHORT).unwrap();
    std::mem::forget(selector);
    events.len() == 1 && before <= 4
}

#[test]
fn a_selector_whose_descriptor_was_closed_reports_that_and_reads_nothing() {
    let levels = [Backend::Select, Backend::Poll];
    type Case = fn(Backend) -> bool;
    let cases: [(&str, &[Backend], Case); 4] = [
        ("closed", Backend::available(), a_closed_number_is_reported),
        ("data", &levels, data_of_the_next_owner_is_not_read),
        ("notification", &levels, a_notification_of_the_next_owner_is_not_read),
        ("silence", &levels, a_next_owner_that_is_not_ready_disturbs_nobody),
    ];
    for (name, backends, case) in cases {
        for &backend in backends {
            if backend == Backend::Kqueue && cfg!(target_os = "linux") {
                // libkqueue has descriptors of its own, and takes a closed one for the end.
                continue;
            }
            assert_eq!(in_forked_child(|| case(backend)).unwrap(), 0, "{name} on {backend}");
        }
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    assert_eq!(in_forked_child(|| data_of_the_next_owner_is_not_read(Backend::Epoll)).unwrap(), 0);
}
