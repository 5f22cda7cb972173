//! UDP, through the facade, on every backend.

mod common;

use std::future::poll_fn;
use std::io::{ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use polyloop::Backend;
use polyloop::net::UdpSocket;

use common::run_on;

backends!(
    a_datagram_arrives_with_its_sender,
    a_waiting_receiver_is_woken,
    an_empty_datagram_is_a_message_and_not_the_end,
    the_largest_datagram_arrives_whole_and_a_larger_one_is_an_error,
    a_truncated_datagram_is_marked,
    peek_leaves_the_datagram,
    try_methods_receive_without_waiting,
    a_connected_socket_receives_from_its_peer_only,
    an_unreachable_port_is_reported_once_and_the_socket_continues,
    a_receiver_that_waits_is_woken_by_the_error,
    an_unconnected_socket_ignores_an_unreachable_port,
    a_dropped_receive_has_taken_no_datagram,
    many_datagrams_cross_in_few_calls,
    a_batch_marks_truncated_datagrams,
    an_address_in_use_is_an_error,
    broadcast_has_to_be_allowed,
    a_multicast_group_receives_what_is_sent_to_it,
    options_have_the_values_that_were_set,
    a_name_is_connected_to_and_an_invalid_one_is_refused,
    a_socket_converts_from_std_and_back,
    windows_of_datagrams_arrive_uncorrupted,
);

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

async fn connected_pair() -> (UdpSocket, UdpSocket) {
    let (one, other) = (socket(), socket());
    one.connect(other.local_addr().unwrap()).await.unwrap();
    other.connect(one.local_addr().unwrap()).await.unwrap();
    (one, other)
}

/// An address without a listener.
fn dead_port() -> SocketAddr {
    socket().local_addr().unwrap()
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn a_datagram_arrives_with_its_sender(backend: Backend) {
    run_on(backend, async {
        let (server, client) = (socket(), socket());
        client.send_to(b"hello", server.local_addr().unwrap()).await.unwrap();
        let mut buf = [0; 16];
        let (n, from) = server.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..n], from), (&b"hello"[..], client.local_addr().unwrap()));
    });
}

fn a_waiting_receiver_is_woken(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        let receiving = polyloop::spawn(async move {
            let mut buf = [0; 4];
            for i in 0..10 {
                assert_eq!(other.recv(&mut buf).await.unwrap(), 1);
                assert_eq!(buf[0], i);
                other.send(&buf[..1]).await.unwrap();
            }
        });
        for i in 0..10 {
            polyloop::yield_now().await;
            one.send(&[i]).await.unwrap();
            let mut buf = [0; 4];
            assert_eq!(one.recv(&mut buf).await.unwrap(), 1);
        }
        receiving.await.unwrap();
    });
}

fn an_empty_datagram_is_a_message_and_not_the_end(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        for bytes in [&b""[..], b"", b"after"] {
            one.send(bytes).await.unwrap();
        }
        let mut buf = [0; 8];
        for _ in 0..2 {
            let received = other.recv_msg(&mut buf).await.unwrap();
            assert_eq!((received.len, received.is_truncated), (0, false));
            assert_eq!(received.from, Some(one.local_addr().unwrap()));
        }
        assert_eq!(other.recv(&mut buf).await.unwrap(), 5);
    });
}

fn the_largest_datagram_arrives_whole_and_a_larger_one_is_an_error(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        let largest: Vec<u8> = (0..65_507_u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(one.send(&largest).await.unwrap(), largest.len());
        let mut buf = vec![0; 65_536];
        let received = other.recv_msg(&mut buf).await.unwrap();
        assert_eq!((received.len, received.is_truncated), (largest.len(), false));
        assert!(buf[..received.len] == largest);

        let error = one.send(&vec![0; 65_508]).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        one.send(b"still fine").await.unwrap();
        assert_eq!(other.recv(&mut buf).await.unwrap(), 10);
    });
}

fn a_truncated_datagram_is_marked(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        one.send(b"exact").await.unwrap();
        one.send(b"longer").await.unwrap();
        one.send(b"next").await.unwrap();
        let mut buf = [0; 5];
        assert!(!other.recv_msg(&mut buf).await.unwrap().is_truncated);
        let cut = other.recv_msg(&mut buf).await.unwrap();
        assert_eq!((cut.len, cut.is_truncated, &buf), (5, true, b"longe"));
        // The remainder is discarded, and not returned as a message.
        assert_eq!(other.recv(&mut buf).await.unwrap(), 4);
        // Into an empty buffer.
        one.send(b"x").await.unwrap();
        let cut = other.recv_msg(&mut []).await.unwrap();
        assert_eq!((cut.len, cut.is_truncated), (0, true));
    });
}

fn peek_leaves_the_datagram(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        one.send(b"abc").await.unwrap();
        let mut buf = [0; 8];
        for _ in 0..3 {
            assert_eq!(other.peek_msg(&mut buf).await.unwrap().len, 3);
        }
        assert!(other.peek_msg(&mut buf[..2]).await.unwrap().is_truncated);
        assert_eq!(other.recv(&mut buf).await.unwrap(), 3);
        assert_eq!(other.try_recv_msg(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

fn try_methods_receive_without_waiting(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        let from = one.local_addr().unwrap();
        let mut buf = [0; 8];
        let would_block = |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::WouldBlock);
        would_block(other.try_recv(&mut buf).unwrap_err());
        would_block(other.try_recv_from(&mut buf).unwrap_err());
        would_block(other.try_recv_msg(&mut buf).unwrap_err());
        would_block(other.try_peek_msg(&mut buf).unwrap_err());
        for bytes in [&b"1"[..], b"22", b"333"] {
            assert_eq!(one.try_send(bytes).unwrap(), bytes.len());
        }
        other.readable().await.unwrap();
        assert_eq!(other.try_peek_msg(&mut buf).unwrap().len, 1);
        assert_eq!(other.try_recv(&mut buf).unwrap(), 1);
        assert_eq!(other.try_recv_from(&mut buf).unwrap(), (2, from));
        assert_eq!(other.try_recv_msg(&mut buf).unwrap().from, Some(from));
        would_block(other.try_recv(&mut buf).unwrap_err());
    });
}

fn a_connected_socket_receives_from_its_peer_only(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        let stranger = socket();
        stranger.send_to(b"psst", other.local_addr().unwrap()).await.unwrap();
        one.send(b"hello").await.unwrap();
        let mut buf = [0; 8];
        let (n, from) = other.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..n], from), (&b"hello"[..], one.local_addr().unwrap()));
        assert_eq!(other.peer_addr().unwrap(), one.local_addr().unwrap());
        assert_eq!(stranger.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
    });
}

fn an_unreachable_port_is_reported_once_and_the_socket_continues(backend: Backend) {
    run_on(backend, async {
        let one = socket();
        let addr = dead_port();
        one.connect(addr).await.unwrap();
        one.send(b"anybody there?").await.unwrap();
        let error = one.recv(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // Now there is a peer.
        let other = UdpSocket::bind(addr).unwrap();
        one.send(b"and now?").await.unwrap();
        let mut buf = [0; 16];
        let (n, from) = other.recv_from(&mut buf).await.unwrap();
        assert_eq!(n, 8);
        other.send_to(b"yes", from).await.unwrap();
        assert_eq!(one.recv(&mut buf).await.unwrap(), 3);
    });
}

fn a_receiver_that_waits_is_woken_by_the_error(backend: Backend) {
    run_on(backend, async {
        let one = std::rc::Rc::new(socket());
        one.connect(dead_port()).await.unwrap();
        let receiver = std::rc::Rc::clone(&one);
        let receiving = polyloop::spawn(async move { receiver.recv(&mut [0; 4]).await });
        polyloop::yield_now().await;
        one.send(b"anybody there?").await.unwrap();
        let error = receiving.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

fn an_unconnected_socket_ignores_an_unreachable_port(backend: Backend) {
    run_on(backend, async {
        let (one, other) = (socket(), socket());
        let dead = dead_port();
        for _ in 0..10 {
            one.send_to(b"nobody", dead).await.unwrap();
        }
        other.send_to(b"somebody", one.local_addr().unwrap()).await.unwrap();
        let mut buf = [0; 16];
        assert_eq!(one.recv_from(&mut buf).await.unwrap(), (8, other.local_addr().unwrap()));
    });
}

fn a_dropped_receive_has_taken_no_datagram(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        let sending = polyloop::spawn(async move {
            for i in 0..=255 {
                one.send(&[i]).await.unwrap();
                polyloop::yield_now().await;
            }
        });
        let mut buf = [0; 4];
        let mut next = 0;
        // Every receive is dropped at its first pending poll and restarted.
        while next < 256 {
            if let Some(n) = poll_once(other.recv(&mut buf)).await {
                assert_eq!((n.unwrap(), usize::from(buf[0])), (1, next));
                next += 1;
            }
            polyloop::yield_now().await;
        }
        sending.await.unwrap();
    });
}

fn many_datagrams_cross_in_few_calls(backend: Backend) {
    run_on(backend, async {
        let (one, other) = (socket(), socket());
        let to = other.local_addr().unwrap();
        let bytes: Vec<[u8; 2]> = (0..64).map(|i| [i, !i]).collect();
        let mut messages: &[(&[u8], SocketAddr)] =
            &bytes.iter().map(|bytes| (&bytes[..], to)).collect::<Vec<_>>();
        let before = polyloop::runtime::metrics().io_calls;
        while !messages.is_empty() {
            let n_sent = one.send_many(messages).await.unwrap();
            messages = &messages[n_sent..];
        }
        let mut received = Vec::new();
        let mut space = [[0; 8]; 64];
        while received.len() < 64 {
            let rest = &mut space[received.len()..];
            let mut bufs: Vec<_> = rest.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            other.recv_many(&mut bufs, &mut received).await.unwrap();
        }
        let n_calls = polyloop::runtime::metrics().io_calls - before;
        assert!(n_calls <= 8, "{n_calls} tries for 64 datagrams each way");
        for (i, one_received) in received.iter().enumerate() {
            assert_eq!(one_received.from, Some(one.local_addr().unwrap()));
            assert_eq!(space[i][..one_received.len], bytes[i]);
        }
        assert_eq!(one.send_many(&[]).await.unwrap(), 0);
        assert_eq!(other.recv_many(&mut [], &mut received).await.unwrap(), 0);
    });
}

fn a_batch_marks_truncated_datagrams(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        for bytes in [&b"fits"[..], b"does not", b""] {
            one.send(bytes).await.unwrap();
        }
        let mut space = [[0; 4]; 3];
        let mut bufs: Vec<_> = space.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let mut received = Vec::new();
        assert_eq!(other.recv_many(&mut bufs, &mut received).await.unwrap(), 3);
        let reported: Vec<_> = received.iter().map(|one| (one.len, one.is_truncated)).collect();
        assert_eq!(reported, [(4, false), (4, true), (0, false)]);
    });
}

fn an_address_in_use_is_an_error(backend: Backend) {
    run_on(backend, async {
        let one = socket();
        let error = UdpSocket::bind(one.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    });
}

fn broadcast_has_to_be_allowed(backend: Backend) {
    run_on(backend, async {
        let one = socket();
        let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        let error = one.send_to(b"hello", everybody).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(!one.broadcast().unwrap());
        one.set_broadcast(true).unwrap();
        assert!(one.broadcast().unwrap());
    });
}

fn a_multicast_group_receives_what_is_sent_to_it(backend: Backend) {
    run_on(backend, async {
        let group = Ipv4Addr::new(239, 255, 71, 7);
        let listener = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let sender = socket();
        let error = listener.join_multicast_v4(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        assert!(error.is_err(), "not a multicast group");
        listener.join_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
        sender.set_multicast_interface_v4(Ipv4Addr::LOCALHOST).unwrap();
        sender.set_multicast_loop_v4(true).unwrap();
        sender.set_multicast_ttl_v4(1).unwrap();
        let to = SocketAddr::from((group, listener.local_addr().unwrap().port()));
        match sender.send_to(b"all of you", to).await {
            // Only a loopback device, without a multicast route.
            Err(error) if error.kind() == ErrorKind::NetworkUnreachable => return,
            sent => assert_eq!(sent.unwrap(), 10),
        }
        let mut buf = [0; 16];
        let (n, from) = listener.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..n], from), (&b"all of you"[..], sender.local_addr().unwrap()));
        listener.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).unwrap();
        assert!(listener.leave_multicast_v4(group, Ipv4Addr::LOCALHOST).is_err());
    });
}

fn options_have_the_values_that_were_set(backend: Backend) {
    run_on(backend, async {
        let one = socket();
        one.set_ttl(7).unwrap();
        assert_eq!(one.ttl().unwrap(), 7);
        assert!(one.take_error().unwrap().is_none());
        // Only with IPv6.
        if let Ok(v6) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
            v6.set_multicast_loop_v6(true).unwrap();
            let group: Ipv6Addr = "ff02::7107".parse().unwrap();
            assert!(v6.leave_multicast_v6(group, 0).is_err());
            // Fails if no interface has IPv6.
            if v6.join_multicast_v6(group, 0).is_ok() {
                v6.leave_multicast_v6(group, 0).unwrap();
            }
        }
    });
}

fn a_name_is_connected_to_and_an_invalid_one_is_refused(backend: Backend) {
    run_on(backend, async {
        let (one, other) = (socket(), socket());
        let port = other.local_addr().unwrap().port();
        one.connect(("localhost", port)).await.unwrap();
        assert_eq!(one.peer_addr().unwrap().port(), port);
        let error = one.connect("no port").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    });
}

fn a_socket_converts_from_std_and_back(backend: Backend) {
    run_on(backend, async {
        let (one, other) = connected_pair().await;
        assert!(poll_once(other.readable()).await.is_some());
        assert!(poll_once(other.recv(&mut [0])).await.is_none());
        let other = other.into_std().unwrap();
        one.send(b"x").await.unwrap();
        // Blocking again, or this would sometimes return an error.
        other.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(other.recv(&mut [0]).unwrap(), 1);
        let other = UdpSocket::from_std(other).unwrap();
        assert!(poll_once(other.recv(&mut [0])).await.is_none());
        one.send(b"y").await.unwrap();
        assert_eq!(other.recv(&mut [0]).await.unwrap(), 1);
    });
}

fn windows_of_datagrams_arrive_uncorrupted(backend: Backend) {
    run_on(backend, async {
        const WINDOW: u32 = 64;
        let (one, other) = connected_pair().await;
        let echo = polyloop::spawn(async move {
            let mut buf = [0; 512];
            loop {
                let n = other.recv(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                other.send(&buf[..n]).await.unwrap();
            }
        });
        let mut buf = [0; 512];
        for round in 0..50 {
            for i in 0..WINDOW {
                let n = round * WINDOW + i;
                let bytes = [n.to_le_bytes(), (!n).to_le_bytes()].concat();
                one.send(&bytes.repeat(1 + i as usize)).await.unwrap();
            }
            for i in 0..WINDOW {
                let n = round * WINDOW + i;
                let received = one.recv(&mut buf).await.unwrap();
                assert_eq!(received, 8 * (1 + i as usize));
                for part in buf[..received].chunks(8) {
                    assert_eq!(part, [n.to_le_bytes(), (!n).to_le_bytes()].concat());
                }
            }
        }
        one.send(b"").await.unwrap();
        echo.await.unwrap();
    });
}
