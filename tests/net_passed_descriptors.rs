//! Aim: passed descriptors arrive whatever other control messages the receiving socket has enabled, which
//! connections inherit from their listener.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::fd::AsFd;

use polyloop::Backend;
use polyloop::net::{UnixDatagram, UnixListener, UnixStream};
use socket2::SockRef;

use common::run_on;

backends!(
    a_listener_that_requests_credentials_loses_no_descriptor,
    a_datagram_with_credentials_loses_no_descriptor,
);

/// systemd's `PassCredentials=` sets the option.
fn a_listener_that_requests_credentials_loses_no_descriptor(backend: Backend) {
    let path = std::env::temp_dir().join(format!("polyloop-{}-{backend}", std::process::id()));
    run_on(backend, async {
        let listener = UnixListener::bind(&path).unwrap();
        SockRef::from(&listener).set_passcred(true).unwrap();
        let client = UnixStream::connect(&path).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        for n_fds in [0, 1, 2, 7] {
            client.send_fds(b"x", &vec![file.as_fd(); n_fds]).await.unwrap();
            let received = server.recv_fds(&mut [0; 8], n_fds).await.unwrap();
            assert_eq!((received.len, received.fds.len()), (1, n_fds));
            assert!(!received.is_truncated);
        }
    });
}

fn a_datagram_with_credentials_loses_no_descriptor(backend: Backend) {
    run_on(backend, async {
        let (one, other) = UnixDatagram::pair().unwrap();
        SockRef::from(&other).set_passcred(true).unwrap();
        one.send_fds(b"first", &[one.as_fd()]).await.unwrap();
        one.send_fds(b"second", &[one.as_fd(); 3]).await.unwrap();
        let received = other.recv_fds(&mut [0; 8], 1).await.unwrap();
        assert_eq!((received.fds.len(), received.is_truncated), (1, false));
        let received = other.recv_fds(&mut [0; 8], 1).await.unwrap();
        assert_eq!((received.fds.len(), received.is_truncated), (1, true));
    });
}
