//! Accept, connect, and messages.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_core::Stream;
use polyloop::net::{
    TcpListener, TcpSocket, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream,
};

use crate::dropper::{Dropper, cases};

cases! {
    a_dropped_accept_has_taken_no_connection: "listening!::accept";
    a_dropped_wait_for_a_connection_loses_none: "listening!::readable";
    a_dropped_wait_for_the_stream_of_connections_loses_none: "Incoming as Stream";
    a_dropped_connect_closes_the_connection: "TcpStream::connect", "TcpStream::connect_timeout",
        "TcpSocket::connect";
    a_dropped_receive_has_taken_no_datagram: "datagrams!::recv_from", "datagrams!::recv",
        "messages!::recv_msg", "messages!::peek_msg", "messages!::readable";
    a_dropped_receive_of_many_has_taken_no_datagram: "UdpSocket::recv_many";
    a_dropped_send_has_sent_no_datagram: "UdpSocket::send_to", "UdpSocket::send",
        "UdpSocket::send_many", "messages!::writable";
    a_dropped_connect_to_a_name_leaves_the_socket_as_it_was: "UdpSocket::connect";
    a_dropped_accept_has_taken_no_unix_connection: "listening!::accept";
    a_dropped_wait_for_the_stream_of_unix_connections_loses_none: "Incoming as Stream";
    a_dropped_connect_closes_the_unix_connection: "UnixStream::connect";
    a_dropped_receive_has_taken_no_unix_datagram: "datagrams!::recv_from", "datagrams!::recv",
        "messages!::recv_msg", "messages!::peek_msg", "messages!::readable";
    a_dropped_send_has_sent_no_unix_datagram: "UnixDatagram::send", "UnixDatagram::send_to",
        "messages!::writable";
    a_dropped_transfer_of_descriptors_sends_and_receives_them_once: "passing!::send_fds", "passing!::recv_fds";
}

/// The number of connections or messages, one per step.
const N_SENT: u8 = 5;

/// Reads the number that a client has sent.
async fn number_of(stream: TcpStream) -> u8 {
    let mut number = [0];
    stream.read_exact(&mut number).await.unwrap();
    number[0]
}

/// Connects one client at each step, which sends its number.
fn tcp_clients(addr: net::SocketAddr) -> impl FnMut() {
    let mut numbers = 1..=N_SENT;
    let mut clients = Vec::new();
    move || {
        clients.extend(numbers.next().map(|number| {
            let mut client = net::TcpStream::connect(addr).unwrap();
            client.write_all(&[number]).unwrap();
            client
        }));
    }
}

fn tcp_listener() -> (TcpListener, net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

async fn a_dropped_accept_has_taken_no_connection(dropper: &Dropper) {
    let (listener, addr) = tcp_listener();
    let mut peer_step = tcp_clients(addr);
    for number in 1..=N_SENT {
        let accept = async || listener.accept().await;
        let (stream, _) = dropper.again(accept, &mut peer_step).await.unwrap();
        assert_eq!(number_of(stream).await, number);
    }
    assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

async fn a_dropped_wait_for_a_connection_loses_none(dropper: &Dropper) {
    let (listener, addr) = tcp_listener();
    let mut peer_step = tcp_clients(addr);
    let mut numbers = Vec::new();
    while numbers.len() < usize::from(N_SENT) {
        dropper.again(async || listener.readable().await, &mut peer_step).await.unwrap();
        if let Ok((stream, _)) = listener.try_accept() {
            numbers.push(number_of(stream).await);
        }
    }
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

async fn a_dropped_wait_for_the_stream_of_connections_loses_none(dropper: &Dropper) {
    let (listener, addr) = tcp_listener();
    let mut peer_step = tcp_clients(addr);
    let mut incoming = pin!(listener.incoming());
    for number in 1..=N_SENT {
        let next = async || poll_fn(|cx| incoming.as_mut().poll_next(cx)).await;
        let stream = dropper.again(next, &mut peer_step).await.unwrap().unwrap();
        assert_eq!(number_of(stream).await, number);
    }
}

async fn a_dropped_connect_closes_the_connection(dropper: &Dropper) {
    let (listener, addr) = tcp_listener();
    let name = ("localhost", addr.port());
    let limit = Duration::from_secs(60);
    let one = dropper.again(async || TcpStream::connect(name).await, || {}).await.unwrap();
    let connect = async || TcpStream::connect_timeout(name, limit).await;
    let two = dropper.again(connect, || {}).await.unwrap();
    let three = async || TcpSocket::new_v4()?.connect(addr).await;
    let three = dropper.again(three, || {}).await.unwrap();
    let ours = [one, two, three].map(|stream| {
        let addr = stream.local_addr().unwrap();
        (stream, addr)
    });
    // Connections of dropped attempts are closed at once.
    let mut n_alive = 0;
    while let Ok((stream, peer)) = listener.try_accept() {
        if ours.iter().any(|(_, addr)| *addr == peer) {
            n_alive += 1;
        } else {
            assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
        }
    }
    assert_eq!(n_alive, 3);
}

fn udp() -> (UdpSocket, net::UdpSocket) {
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.connect(ours.local_addr().unwrap()).unwrap();
    (ours, peer)
}

/// Sends a datagram with a number, and that many bytes, at each step.
fn datagrams(mut send: impl FnMut(&[u8])) -> impl FnMut() {
    let mut numbers = 1..=N_SENT;
    move || {
        if let Some(number) = numbers.next() {
            send(&vec![number; number.into()]);
        }
    }
}

/// Calls each receiving function in turn, and checks that datagrams arrive once and in order.
macro_rules! receives_each_once {
    ($dropper:ident, $ours:ident, $peer_step:ident) => {
        for number in 1..=N_SENT {
            let mut buf = [0; 16];
            let n_bytes = match number {
                1 => {
                    let receive = async || $ours.recv_from(&mut buf).await;
                    $dropper.again(receive, &mut $peer_step).await.unwrap().0
                }
                2 => $dropper
                    .again(async || $ours.recv(&mut buf).await, &mut $peer_step)
                    .await
                    .unwrap(),
                3 => {
                    let receive = async || $ours.recv_msg(&mut buf).await;
                    $dropper.again(receive, &mut $peer_step).await.unwrap().len
                }
                4 => {
                    let peek = async || $ours.peek_msg(&mut buf).await;
                    let peeked = $dropper.again(peek, &mut $peer_step).await.unwrap();
                    assert_eq!(peeked.len, 4);
                    $ours.recv(&mut buf).await.unwrap()
                }
                _ => loop {
                    $dropper.again(async || $ours.readable().await, &mut $peer_step).await.unwrap();
                    if let Ok(received) = $ours.try_recv_msg(&mut buf) {
                        break received.len;
                    }
                },
            };
            assert_eq!(buf[..n_bytes], vec![number; number.into()]);
        }
        assert!($ours.try_recv_msg(&mut [0]).is_err());
    };
}

async fn a_dropped_receive_has_taken_no_datagram(dropper: &Dropper) {
    let (ours, peer) = udp();
    let mut peer_step = datagrams(|bytes| {
        peer.send(bytes).unwrap();
    });
    receives_each_once!(dropper, ours, peer_step);
}

async fn a_dropped_receive_of_many_has_taken_no_datagram(dropper: &Dropper) {
    let (ours, peer) = udp();
    let mut peer_step = datagrams(|bytes| {
        peer.send(bytes).unwrap();
    });
    let mut sizes = Vec::new();
    while sizes.len() < usize::from(N_SENT) {
        let (mut one, mut two, mut received) = ([0; 16], [0; 16], Vec::new());
        let receive = async || {
            let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            ours.recv_many(bufs, &mut received).await
        };
        let n_received = dropper.again(receive, &mut peer_step).await.unwrap();
        assert_eq!(n_received, received.len());
        sizes.extend(received.iter().map(|received| received.len));
    }
    assert_eq!(sizes, [1, 2, 3, 4, 5]);
}

async fn a_dropped_send_has_sent_no_datagram(dropper: &Dropper) {
    let (ours, peer) = udp();
    let to = peer.local_addr().unwrap();
    dropper.again(async || ours.send_to(b"1", to).await, || {}).await.unwrap();
    dropper.again(async || ours.writable().await, || {}).await.unwrap();
    let many = [(&b"22"[..], to), (&b"333"[..], to)];
    assert_eq!(dropper.again(async || ours.send_many(&many).await, || {}).await.unwrap(), 2);
    ours.connect(to).await.unwrap();
    dropper.again(async || ours.send(b"4444").await, || {}).await.unwrap();
    peer.set_nonblocking(true).unwrap();
    for n_bytes in 1..=4 {
        assert_eq!(peer.recv(&mut [0; 16]).unwrap(), n_bytes);
    }
    assert_eq!(peer.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

async fn a_dropped_connect_to_a_name_leaves_the_socket_as_it_was(dropper: &Dropper) {
    let (ours, peer) = udp();
    let name = ("localhost", peer.local_addr().unwrap().port());
    let is_connected = || ours.peer_addr().is_ok();
    let connect = dropper.again(
        async || {
            let was_connected = is_connected();
            ours.connect(name).await.map(|()| was_connected)
        },
        || {},
    );
    assert!(!connect.await.unwrap(), "a dropped attempt had connected it");
    assert_eq!(ours.peer_addr().unwrap(), peer.local_addr().unwrap());
}

/// A unique path.
pub(crate) fn fresh_path() -> PathBuf {
    static N_PATHS: AtomicUsize = AtomicUsize::new(0);
    let name =
        format!("polyloop-drop-{}-{}", std::process::id(), N_PATHS.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

fn unix_clients(path: PathBuf) -> impl FnMut() {
    let mut numbers = 1..=N_SENT;
    let mut clients = Vec::new();
    move || {
        clients.extend(numbers.next().map(|number| {
            let mut client = unix::UnixStream::connect(&path).unwrap();
            client.write_all(&[number]).unwrap();
            client
        }));
    }
}

async fn a_dropped_accept_has_taken_no_unix_connection(dropper: &Dropper) {
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let mut peer_step = unix_clients(path);
    for number in 1..=N_SENT {
        let accept = async || listener.accept().await;
        let (stream, _) = dropper.again(accept, &mut peer_step).await.unwrap();
        let mut buf = [0];
        stream.read_exact(&mut buf).await.unwrap();
        assert_eq!(buf, [number]);
    }
    assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

async fn a_dropped_wait_for_the_stream_of_unix_connections_loses_none(dropper: &Dropper) {
    let path = fresh_path();
    let listener = UnixListener::bind(&path).unwrap();
    let mut peer_step = unix_clients(path);
    let mut incoming = pin!(listener.incoming());
    for number in 1..=N_SENT {
        let next = async || poll_fn(|cx| incoming.as_mut().poll_next(cx)).await;
        let stream = dropper.again(next, &mut peer_step).await.unwrap().unwrap();
        let mut buf = [0];
        stream.read_exact(&mut buf).await.unwrap();
        assert_eq!(buf, [number]);
    }
}

async fn a_dropped_connect_closes_the_unix_connection(dropper: &Dropper) {
    // With a queue so short that connect waits for a place.
    let path = fresh_path();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
    let listener = listener.unwrap();
    listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let listener = UnixListener::from_std(listener.into()).unwrap();
    let mut waiting = Vec::new();
    loop {
        let connect = UnixStream::connect(&path);
        match polyloop::timeout(Duration::from_millis(1), connect).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let accepted = RefCell::new(Vec::new());
    let accept = || accepted.borrow_mut().extend(listener.try_accept().ok());
    let ours = dropper.again(async || UnixStream::connect(&path).await, accept).await.unwrap();
    ours.write_all(b"!").await.unwrap();
    let n_waiting = waiting.len();
    drop(waiting);
    while let Ok(one) = listener.try_accept() {
        accepted.borrow_mut().push(one);
    }
    // One of them is ours; those of dropped attempts have closed.
    let mut n_alive = 0;
    let accepted = accepted.into_inner();
    assert!(accepted.len() > n_waiting);
    for (stream, _) in accepted {
        n_alive += stream.read(&mut [0]).await.unwrap();
    }
    assert_eq!(n_alive, 1);
    std::fs::remove_file(&path).unwrap();
}

async fn a_dropped_receive_has_taken_no_unix_datagram(dropper: &Dropper) {
    let (ours, peer) = unix::UnixDatagram::pair().unwrap();
    let ours = UnixDatagram::from_std(ours).unwrap();
    let mut peer_step = datagrams(|bytes| {
        peer.send(bytes).unwrap();
    });
    receives_each_once!(dropper, ours, peer_step);
}

/// Sends until the buffer is full; returns the number of datagrams.
fn fill(mut try_send: impl FnMut(&[u8]) -> std::io::Result<usize>) -> usize {
    let mut n_sent = 0;
    while try_send(&[0; 100]).is_ok() {
        n_sent += 1;
    }
    n_sent
}

async fn a_dropped_send_has_sent_no_unix_datagram(dropper: &Dropper) {
    let path = fresh_path();
    let peer = unix::UnixDatagram::bind(&path).unwrap();
    peer.set_nonblocking(true).unwrap();
    let ours = UnixDatagram::unbound().unwrap();
    ours.connect(&path).unwrap();
    let stranger = UnixDatagram::unbound().unwrap();
    let received = RefCell::new(Vec::new());
    let receive = || {
        for _ in 0..2 {
            received.borrow_mut().extend(peer.recv(&mut [0; 200]).ok());
        }
    };
    let mut n_filled = fill(|buf| ours.try_send(buf));
    dropper.again(async || ours.send(b"1").await, receive).await.unwrap();
    dropper.again(async || ours.writable().await, receive).await.unwrap();
    n_filled += fill(|buf| ours.try_send(buf));
    dropper.again(async || stranger.send_to(b"22", &path).await, receive).await.unwrap();
    while received.borrow().len() < n_filled + 2 {
        receive();
    }
    assert_eq!(peer.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut odd = received.into_inner();
    odd.retain(|n_bytes| *n_bytes != 100);
    assert_eq!(odd, [1, 2]);
    std::fs::remove_file(&path).unwrap();
}

async fn a_dropped_transfer_of_descriptors_sends_and_receives_them_once(dropper: &Dropper) {
    let (ours, peer) = UnixStream::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    for bytes in [b"1", b"2"] {
        let fds = [writer.as_fd()];
        dropper.again(async || peer.send_fds(bytes, &fds).await, || {}).await.unwrap();
    }
    drop(peer);
    drop(writer);
    for byte in [*b"1", *b"2"] {
        let mut buf = [0];
        let receive = async || ours.recv_fds(&mut buf, 2).await;
        let received = dropper.again(receive, || {}).await.unwrap();
        assert_eq!((buf, received.fds.len()), (byte, 1));
        for fd in received.fds {
            std::fs::File::from(fd).write_all(&byte).unwrap();
        }
    }
    // No copy is left open, or this would not end.
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "12");
    assert_eq!(ours.try_read(&mut [0]).unwrap(), 0);
}

#[cfg(not(target_vendor = "apple"))]
pub(crate) mod seqpacket {
    use polyloop::net::{UnixSeqpacket, UnixSeqpacketListener};

    use super::*;

    cases! {
        dropped_operations_have_accepted_and_connected_nobody: "UnixSeqpacket::connect",
            "listening!::accept", "listening!::readable";
        dropped_operations_have_moved_no_message: "UnixSeqpacket::send", "UnixSeqpacket::recv",
            "messages!::recv_msg", "messages!::peek_msg", "messages!::readable",
            "messages!::writable";
    }

    async fn dropped_operations_have_accepted_and_connected_nobody(dropper: &Dropper) {
        let path = fresh_path();
        let listener = UnixSeqpacketListener::bind(&path).unwrap();
        let client = dropper.again(async || UnixSeqpacket::connect(&path).await, || {});
        let client = client.await.unwrap();
        client.send(b"here").await.unwrap();
        dropper.again(async || listener.readable().await, || {}).await.unwrap();
        // Those before it were dropped.
        loop {
            let accept = async || listener.accept().await;
            let (server, _) = dropper.again(accept, || {}).await.unwrap();
            let mut buf = [0; 8];
            if server.recv(&mut buf).await.unwrap() > 0 {
                assert_eq!(&buf[..4], b"here");
                break;
            }
        }
    }

    async fn dropped_operations_have_moved_no_message(dropper: &Dropper) {
        let (ours, peer) = UnixSeqpacket::pair().unwrap();
        let n_filled = fill(|buf| ours.try_send(buf));
        let sizes = RefCell::new(Vec::new());
        // Many at a time: the kernel reports writability only when most of the buffer is free.
        let receive = || {
            for _ in 0..100 {
                let received = peer.try_recv_msg(&mut [0; 200]).ok();
                sizes.borrow_mut().extend(received.map(|received| received.len));
            }
        };
        dropper.again(async || ours.send(b"123").await, receive).await.unwrap();
        while sizes.borrow().len() <= n_filled {
            receive();
        }
        assert_eq!(sizes.into_inner().split_off(n_filled), [3]);
        assert!(peer.try_recv_msg(&mut [0]).is_err());
        peer.send(b"1").await.unwrap();
        peer.send(b"22").await.unwrap();
        let mut buf = [0; 8];
        dropper.again(async || ours.readable().await, || {}).await.unwrap();
        dropper.again(async || ours.writable().await, || {}).await.unwrap();
        let peek = async || ours.peek_msg(&mut buf).await;
        assert_eq!(dropper.again(peek, || {}).await.unwrap().len, 1);
        assert_eq!(dropper.again(async || ours.recv(&mut buf).await, || {}).await.unwrap(), 1);
        let receive = async || ours.recv_msg(&mut buf).await;
        assert_eq!(dropper.again(receive, || {}).await.unwrap().len, 2);
        drop(peer);
        assert_eq!(ours.recv(&mut buf).await.unwrap(), 0);
    }
}
