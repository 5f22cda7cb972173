//! Running out of descriptors: clear errors, and nothing is lost.
//!
//! The only test of its file, because the limit applies to the process.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use polyloop_reactor::conformance::{descriptor_limit, set_descriptor_limit};
use polyloop_reactor::{Backend, Events, Interest, Mode, SignalFd, Token, WakeFd};

const LOOK: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_limit_below_the_open_descriptors_is_an_error_and_loses_nothing() {
    const N_PAIRS: usize = 40;
    let limit = descriptor_limit().unwrap();
    for backend in Backend::available() {
        let mut selector = backend.open().unwrap();
        let mut events = Events::with_capacity(N_PAIRS);
        let mut pairs: Vec<_> = (0..N_PAIRS).map(|_| UnixStream::pair().unwrap()).collect();
        for ((end, _), number) in pairs.iter().zip(0..) {
            let token = Token::from_raw(number);
            selector.register(end.as_fd(), token, Interest::READABLE, Mode::Level).unwrap();
        }
        pairs[7].1.write_all(b"x").unwrap();

        set_descriptor_limit(20).unwrap();
        for _ in 0..3 {
            match selector.select(&mut events, LOOK) {
                Ok(()) => assert_eq!(events.len(), 1, "{backend}"),
                // Only poll has this limit.
                Err(error) => {
                    assert_eq!(*backend, Backend::Poll);
                    assert!(error.to_string().contains("too many descriptors"), "{error}");
                }
            }
        }
        // Operations that need a new descriptor return an error.
        backend.open().and_then(|selector| selector.notifier()).unwrap_err();
        WakeFd::new().unwrap_err();
        SignalFd::listen(SignalFd::USER1).unwrap_err();

        // As many registrations as the limit allows descriptors.
        set_descriptor_limit(N_PAIRS as u64).unwrap();
        selector.select(&mut events, LOOK).unwrap();

        set_descriptor_limit(limit).unwrap();
        selector.select(&mut events, LOOK).unwrap();
        assert_eq!(events.iter().map(|event| event.token.raw()).collect::<Vec<_>>(), [7]);
        assert_eq!(selector.registrations().len(), N_PAIRS);
        backend.open().unwrap();
        drop(SignalFd::listen(SignalFd::USER1).unwrap());
    }
}
