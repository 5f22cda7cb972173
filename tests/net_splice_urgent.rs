//! Aim: a splice moves data after urgent data, and waits there without spinning.
#![cfg(any(target_os = "linux", target_os = "android"))]

mod common;

use std::io::{self, Read, Write};
use std::net;
use std::os::unix::net as unix;
use std::time::Duration;

use polyloop::Backend;
use polyloop::io::Splicer;
use polyloop::net::{Connection, TcpStream, UnixStream};
use socket2::SockRef;

use common::run_on;

backends!(
    data_queued_behind_urgent_data_is_moved,
    data_after_urgent_data_is_moved,
    several_urgent_bytes_lose_no_other_byte,
    a_splice_between_unix_sockets_passes_urgent_data,
    a_splice_that_waits_behind_urgent_data_does_not_spin,
);

fn tcp_pair() -> (net::TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nodelay(true).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Waits until the kernel has `n_bytes` to read, with or without the urgent ones.
fn wait_until_queued(receiver: &net::TcpStream, n_bytes: usize) {
    receiver.set_nonblocking(false).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Up to the first urgent byte: the bytes after it were sent before the peer's next answer.
    while receiver.peek(&mut [0; 64]).unwrap() < n_bytes {
        std::thread::yield_now();
    }
}

/// Splices from `front` to another connection until it ends, and returns the bytes.
async fn spliced<A: Connection + 'static>(front: A) -> (io::Result<u64>, Vec<u8>) {
    let (back, mut out) = unix::UnixStream::pair().unwrap();
    let back = UnixStream::from_std(back).unwrap();
    let moving = polyloop::spawn(async move { Splicer::new(&front, &back).unwrap().run().await });
    let moved = moving.await.unwrap();
    let mut received = Vec::new();
    out.read_to_end(&mut received).unwrap();
    (moved, received)
}

fn data_queued_behind_urgent_data_is_moved(backend: Backend) {
    for before in [&b"before"[..], b""] {
        for after in [&b"after"[..], b"a", b""] {
            let (mut client, front) = tcp_pair();
            client.write_all(before).unwrap();
            SockRef::from(&client).send_out_of_band(b"!").unwrap();
            client.write_all(after).unwrap();
            drop(client);
            if !before.is_empty() {
                wait_until_queued(&front, before.len());
            }
            run_on(backend, async {
                let (moved, received) = spliced(TcpStream::from_std(front).unwrap()).await;
                let expected = [before, after].concat();
                assert_eq!(received, expected);
                assert_eq!(moved.unwrap(), expected.len() as u64);
            });
        }
    }
}

fn data_after_urgent_data_is_moved(backend: Backend) {
    run_on(backend, async {
        let (client, front) = tcp_pair();
        let (back, server) = UnixStream::pair().unwrap();
        let front = TcpStream::from_std(front).unwrap();
        let moving =
            polyloop::spawn(async move { Splicer::new(&front, &back).unwrap().run().await });
        let mut buf = [0; 16];
        for _ in 0..5 {
            for text in [&b"before"[..], b"after"] {
                (&client).write_all(text).unwrap();
                server.read_exact(&mut buf[..text.len()]).await.unwrap();
                assert_eq!(&buf[..text.len()], text);
                SockRef::from(&client).send_out_of_band(b"!").unwrap();
            }
        }
        drop(client);
        assert_eq!(moving.await.unwrap().unwrap(), 55);
    });
}

fn several_urgent_bytes_lose_no_other_byte(backend: Backend) {
    let mut random = fastrand::Rng::with_seed(9);
    run_on(backend, async {
        let (client, front) = tcp_pair();
        let (back, server) = UnixStream::pair().unwrap();
        let front = TcpStream::from_std(front).unwrap();
        let moving =
            polyloop::spawn(async move { Splicer::new(&front, &back).unwrap().run().await });
        let sent: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = std::thread::spawn(move || {
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (piece, others) = rest.split_at(random.usize(1..3_000).min(rest.len()));
                (&client).write_all(piece).unwrap();
                // An urgent byte that another one replaces becomes a plain one (RFC 6093). Its value
                // identifies it.
                SockRef::from(&client).send_out_of_band(&[255]).unwrap();
                rest = others;
            }
        });
        let mut received = Vec::new();
        polyloop::io::copy(&server, &mut received).await.unwrap();
        writing.join().unwrap();
        let n_moved = moving.await.unwrap().unwrap();
        assert_eq!(n_moved, received.len() as u64);
        received.retain(|byte| *byte != 255);
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
    });
}

fn a_splice_between_unix_sockets_passes_urgent_data(backend: Backend) {
    for after in [&b"after"[..], b""] {
        let (mut client, front) = unix::UnixStream::pair().unwrap();
        client.write_all(b"before").unwrap();
        if SockRef::from(&client).send_out_of_band(b"!").is_err() {
            // Linux has it since 5.15.
            return;
        }
        client.write_all(after).unwrap();
        drop(client);
        run_on(backend, async {
            let (moved, received) = spliced(UnixStream::from_std(front).unwrap()).await;
            assert_eq!(received, [b"before", after].concat());
            assert_eq!(moved.unwrap(), 6 + after.len() as u64);
        });
    }
}

fn a_splice_that_waits_behind_urgent_data_does_not_spin(backend: Backend) {
    run_on(backend, async {
        let (mut client, front) = tcp_pair();
        client.write_all(b"before").unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        let front = TcpStream::from_std(front).unwrap();
        let (back, server) = UnixStream::pair().unwrap();
        let moving =
            polyloop::spawn(async move { Splicer::new(&front, &back).unwrap().run().await });
        server.read_exact(&mut [0; 6]).await.unwrap();
        polyloop::sleep(Duration::from_millis(2)).await;
        let before = polyloop::runtime::metrics().polls;
        polyloop::sleep(Duration::from_millis(20)).await;
        let n_polls = polyloop::runtime::metrics().polls - before;
        assert!(n_polls < 10, "{n_polls} polls without an event");
        drop(client);
        assert_eq!(moving.await.unwrap().unwrap(), 6);
    });
}
