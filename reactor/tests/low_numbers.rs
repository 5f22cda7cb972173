//! A selector's internal descriptors: it opens them only when needed, and select needs none to open although it
//! cannot watch numbers above its limit.
//!
//! The only test of its file, because numbers and limits belong to the process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use polyloop_reactor::conformance::{open_numbers, set_descriptor_limit};
use polyloop_reactor::{Backend, Events, Interest, Mode, Token, WaitEnd};

const A: Token = Token::from_raw(1);
const LIMIT: i32 = 1_024;

fn n_open() -> usize {
    open_numbers(LIMIT).len()
}

#[test]
fn a_selector_opens_descriptors_only_when_needed() {
    for &backend in Backend::available() {
        let before = n_open();
        let selector = backend.open().unwrap();
        let needed = match backend {
            Backend::Select | Backend::Poll => 0,
            Backend::Epoll => 1,
            // libkqueue has internal descriptors.
            _ => n_open() - before,
        };
        assert_eq!(n_open() - before, needed, "{backend} opens");
        selector.notifier().unwrap();
        let with_notifier = n_open();
        selector.notifier().unwrap();
        assert_eq!(n_open(), with_notifier, "{backend}: a second notifier");
        drop(selector);
        assert_eq!(n_open(), before, "{backend} closes");
    }

    if set_descriptor_limit(LIMIT as u64 + 100).is_err() {
        return;
    }
    let (one, mut other) = UnixStream::pair().unwrap();
    let mut low: Vec<File> = Vec::new();
    while low.last().is_none_or(|file| file.as_raw_fd() < LIMIT) {
        low.push(File::open("/dev/null").unwrap());
    }
    let mut selector = Backend::Select.open().unwrap();
    selector.register(one.as_fd(), A, Interest::READABLE, Mode::Level).unwrap();
    other.write_all(b"x").unwrap();
    let mut events = Events::with_capacity(8);
    selector.select(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert_eq!(events.len(), 1);

    let error = selector.notifier().unwrap_err();
    assert!(error.to_string().contains("FD_SETSIZE"), "{error}");
    selector.select(&mut events, Some(Duration::ZERO)).unwrap();
    assert_eq!(events.len(), 1, "the refused registration left a trace");

    // A number is free again.
    low.swap_remove(10);
    selector.unregister(one.as_fd()).unwrap();
    selector.notifier().unwrap().notify().unwrap();
    selector.select(&mut events, None).unwrap();
    assert_eq!(events.wait_end(), WaitEnd::Notification);
}
