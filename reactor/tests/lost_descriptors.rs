//! A program closes a selector's descriptor (by a double close or a close of a range): the selector reports that,
//! does not spin, and reads nothing from the next owner of the number.
//!
//! The only test of its file, with each case in a forked child, because threads share descriptor numbers.

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

/// A selector, and the descriptor that it reads notifications from; with epoll that of the set.
fn open(backend: Backend) -> (Box<dyn Selector>, RawFd) {
    // Ends the child if it hangs.
    alarm_every(Duration::from_secs(10)).unwrap();
    let before = open_numbers(64);
    let selector = backend.open().unwrap();
    selector.notifier().unwrap();
    let first = open_numbers(64).into_iter().find(|fd| !before.contains(fd)).unwrap();
    (selector, first)
}

/// Waits twice, and checks that each wait returns the error at once.
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

/// The inode of an eventfd does not identify it.
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

/// Lost notifications are not detected, but registered descriptors are served.
fn a_next_owner_that_is_not_ready_disturbs_no_wait(backend: Backend) -> bool {
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
        ("silence", &levels, a_next_owner_that_is_not_ready_disturbs_no_wait),
    ];
    for (name, backends, case) in cases {
        for &backend in backends {
            if backend == Backend::Kqueue && cfg!(target_os = "linux") {
                // libkqueue has internal descriptors, and treats a closed one as the end.
                continue;
            }
            assert_eq!(in_forked_child(|| case(backend)).unwrap(), 0, "{name} on {backend}");
        }
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    assert_eq!(in_forked_child(|| data_of_the_next_owner_is_not_read(Backend::Epoll)).unwrap(), 0);
}
