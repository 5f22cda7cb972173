//! Aim: system calls that the system refuses are replaced by plain ones.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::net;
use std::thread;

use libc::{ENOSYS, EPERM};
use polyloop::io::{Splicer, copy};
use polyloop::net::{TcpStream, UdpSocket, UnixStream};

use crate::programs::{UNDER, run_test};

/// Runs `exchange` in a separate process, with `call` refused from the first call on and from a later one.
fn with_refused(test: &str, call: &str, exchange: impl AsyncFnOnce()) {
    if std::env::var_os(UNDER).is_some() {
        return polyloop::run(exchange()).expect("a loop");
    }
    for error in [ENOSYS, EPERM] {
        for first in [1, 2, 3, 6] {
            let rules = format!("{call}:errno={error}:{first}:1000000");
            let output = run_test(test, &rules);
            let printed = String::from_utf8_lossy(&output.stdout);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && printed.contains("1 passed"),
                "{rules}: {printed}{said}"
            );
        }
    }
}

fn pattern(n_bytes: usize) -> Vec<u8> {
    (0..n_bytes).map(|i| (i * 31 % 251) as u8).collect()
}

fn tcp_pair() -> (net::TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let client = net::TcpStream::connect(listener.local_addr().expect("it has one"));
    (client.expect("it listens"), listener.accept().expect("a client").0)
}

#[test]
fn sendmmsg_is_replaced() {
    with_refused("refused::sendmmsg_is_replaced", "sendmmsg", datagrams_cross);
}

#[test]
fn recvmmsg_is_replaced() {
    with_refused("refused::recvmmsg_is_replaced", "recvmmsg", datagrams_cross);
}

async fn datagrams_cross() {
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (to, from) = (receiver.local_addr().unwrap(), sender.local_addr().unwrap());
    for _ in 0..5 {
        let messages = [(&b"one"[..], to), (b"", to), (b"three", to)];
        let mut n_sent = 0;
        while n_sent < messages.len() {
            n_sent += sender.send_many(&messages[n_sent..]).await.expect("sent one by one");
        }
        let (mut bufs, mut received) = ([[0; 4]; 3], Vec::new());
        while received.len() < 3 {
            let mut rest: Vec<_> =
                bufs[received.len()..].iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            let n_received = receiver.recv_many(&mut rest, &mut received).await;
            assert!(n_received.expect("received one by one") > 0);
        }
        assert_eq!(received.iter().map(|one| one.len).collect::<Vec<_>>(), [3, 0, 4]);
        assert!(received[2].is_truncated && received.iter().all(|one| one.from == Some(from)));
        assert_eq!((&bufs[0][..3], &bufs[2]), (&b"one"[..], b"thre"));
    }
}

#[test]
fn splice_is_replaced() {
    with_refused("refused::splice_is_replaced", "splice", async || {
        let sent = pattern(1 << 20);
        let ((mut client, front), (back, server)) = (tcp_pair(), UnixStream::pair().unwrap());
        let front = TcpStream::from_std(front).expect("a socket");
        let expected = sent.clone();
        let writing = thread::spawn(move || client.write_all(&sent));
        let moving = polyloop::spawn(async move { Splicer::new(&front, &back)?.run().await });
        let mut received = Vec::new();
        copy(&server, &mut received).await.expect("read to the end");
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        assert_eq!(moving.await.unwrap().expect("moved through the program"), 1 << 20);
        writing.join().unwrap().expect("written");
    });
}

#[test]
fn sendfile_is_replaced() {
    with_refused("refused::sendfile_is_replaced", "sendfile", async || {
        let path = std::env::temp_dir().join(format!("polyloop-refused-{}", std::process::id()));
        let sent = pattern(3 << 20);
        fs::write(&path, &sent).expect("a file");
        let file = File::open(&path).expect("it is there");
        fs::remove_file(&path).expect("it is there");
        let (client, mut server) = tcp_pair();
        let reading = thread::spawn(move || {
            let mut received = Vec::new();
            server.read_to_end(&mut received).map(|_| received)
        });
        let client = TcpStream::from_std(client).expect("a socket");
        let mut range = 5..sent.len() as u64;
        client.send_file(&file, &mut range).await.expect("read and written");
        assert!(range.is_empty());
        let error = client.send_file(&file, &mut (sent.len() as u64..1 << 33)).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        drop(client);
        assert!(reading.join().unwrap().expect("read") == sent[5..]);
    });
}
