//! Aim: a duration or number that a socket option cannot represent is rounded up, bounded or refused, and
//! never becomes a different setting.

mod common;

use std::io::{self, ErrorKind};
use std::time::Duration;

use polyloop::Backend;
use polyloop::net::{Keepalive, TcpListener, TcpSocket, TcpStream, UdpSocket};
use socket2::SockRef;

use common::run_on;

backends!(
    linger_is_rounded_up_and_bounded_and_only_zero_resets,
    a_short_linger_sends_queued_data_instead_of_resetting,
);

const SECOND: Duration = Duration::from_secs(1);

/// Durations below, between, at and beyond the values of an option in seconds.
const LENGTHS: [(Duration, Duration); 7] = [
    (Duration::from_nanos(1), SECOND),
    (Duration::from_millis(500), SECOND),
    (SECOND, SECOND),
    (Duration::from_nanos(1_000_000_001), Duration::from_secs(2)),
    (Duration::from_millis(59_999), Duration::from_secs(60)),
    (Duration::from_secs(1 << 32), Duration::MAX),
    (Duration::MAX, Duration::MAX),
];

/// Checks the value that was set for `requested`; `Duration::MAX` stands for the bound.
fn check(requested: Duration, got: Duration, expected: Duration) {
    match expected {
        Duration::MAX => assert!(got >= Duration::from_secs(300), "{requested:?} became {got:?}"),
        _ => assert_eq!(got, expected, "{requested:?}"),
    }
}

fn linger_is_rounded_up_and_bounded_and_only_zero_resets(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        for (requested, expected) in LENGTHS {
            stream.set_linger(Some(requested)).unwrap();
            check(requested, stream.linger().unwrap().unwrap(), expected);
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_linger(Some(requested)).unwrap();
            check(requested, socket.linger().unwrap().unwrap(), expected);
        }
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        assert_eq!(stream.linger().unwrap(), Some(Duration::ZERO));
        stream.set_linger(None).unwrap();
        assert_eq!(stream.linger().unwrap(), None);
    });
}

fn a_short_linger_sends_queued_data_instead_of_resetting(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        server.write_all(b"goodbye").await.unwrap();
        server.set_linger(Some(Duration::from_millis(500))).unwrap();
        drop(server);
        let mut buf = [0; 16];
        assert_eq!(client.read(&mut buf).await.unwrap(), 7);
        assert_eq!(client.read(&mut buf).await.unwrap(), 0);
    });
}

#[cfg(not(target_os = "openbsd"))]
#[test]
fn keepalive_is_rounded_up_and_bounded() {
    for (requested, expected) in LENGTHS {
        let keepalive = Keepalive::new(requested).with_interval(requested).with_retries(3);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_keepalive(keepalive).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        check(requested, socket.tcp_keepalive_time().unwrap(), expected);
        check(requested, socket.tcp_keepalive_interval().unwrap(), expected);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }
    for (requested, expected) in [(1, 1), (127, 127), (128, 127), (u32::MAX, 127)] {
        let keepalive = Keepalive::new(SECOND).with_retries(requested);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_keepalive(keepalive).unwrap();
        assert_eq!(
            SockRef::from(&socket).tcp_keepalive_retries().unwrap(),
            expected,
            "{requested}"
        );
    }
    let zero = Duration::ZERO;
    for nothing in [
        Keepalive::new(zero),
        Keepalive::new(SECOND).with_interval(zero),
        Keepalive::new(SECOND).with_retries(0),
    ] {
        let error = TcpSocket::new_v4().unwrap().set_keepalive(nothing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        // The system gives only a number.
        assert!(error.to_string().contains("prob"), "{error}");
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_user_timeout_is_rounded_up_and_bounded_and_only_zero_is_the_default() {
    let millisecond = Duration::from_millis(1);
    for (requested, expected) in [
        (Duration::ZERO, None),
        (Duration::from_nanos(1), Some(millisecond)),
        (Duration::from_micros(999), Some(millisecond)),
        (Duration::from_micros(1_001), Some(2 * millisecond)),
        (Duration::from_secs(60), Some(Duration::from_secs(60))),
        (Duration::from_millis(1 << 31), Some(Duration::from_millis((1 << 31) - 1))),
        (Duration::from_millis(1 << 32), Some(Duration::from_millis((1 << 31) - 1))),
        (Duration::MAX, Some(Duration::from_millis((1 << 31) - 1))),
    ] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_user_timeout(requested).unwrap();
        assert_eq!(SockRef::from(&socket).tcp_user_timeout().unwrap(), expected, "{requested:?}");
    }
}

#[test]
fn a_buffer_size_beyond_the_systems_range_is_not_the_minimum() {
    let size_of = |requested| {
        let socket = TcpSocket::new_v4()?;
        socket.set_send_buffer_size(requested)?;
        socket.set_recv_buffer_size(requested)?;
        io::Result::Ok((socket.send_buffer_size()?, socket.recv_buffer_size()?))
    };
    let modest = size_of(64 * 1024).unwrap();
    let large = [1 << 31, 1 << 32, (1 << 32) + 1, u64::MAX].map(usize::try_from);
    for requested in large.into_iter().flatten().chain([usize::MAX]) {
        // Some systems refuse values above their limit, and Linux reduces them.
        if let Ok(got) = size_of(requested) {
            assert!(got.0 >= modest.0 && got.1 >= modest.1, "{requested}: {got:?}, {modest:?}");
        }
    }
}

#[test]
fn a_number_beyond_an_octet_is_refused_and_not_the_default() {
    let refused = |result: io::Result<()>, what| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
    };
    for n in [256, 1 << 31, u32::MAX] {
        let socket = TcpSocket::new_v4().unwrap();
        refused(socket.set_ttl(n), "ttl");
        refused(socket.set_tos(n), "tos");
        if let Ok(socket) = TcpSocket::new_v6() {
            refused(socket.set_ttl(n), "ttl over IPv6");
            refused(socket.set_tos(n), "class over IPv6");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        refused(socket.set_ttl(n), "ttl of datagrams");
        refused(socket.set_multicast_ttl_v4(n), "ttl of datagrams to groups");
    }
}
