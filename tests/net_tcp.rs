//! TCP beyond the echo: settings, several addresses, names, and invalid input, on every backend.

mod common;

use std::fs;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use polyloop::Backend;
#[cfg(any(target_os = "linux", target_os = "android"))]
use polyloop::io::Splicer;
use polyloop::net::{
    AcceptErrorKind, Direction, Keepalive, TcpListener, TcpSocket, TcpStream, UnixStream,
    lookup_host, pipe,
};
use polyloop::selectors::SignalFd;
use socket2::SockRef;

use common::{is_alone, is_libkqueue, run_on};

backends!(
    settings_have_the_values_that_were_set,
    connections_inherit_the_settings_of_their_listener,
    a_setting_that_the_system_refuses_is_an_error,
    accepted_connections_are_close_on_exec_and_non_blocking,
    vectored_writes_and_reads_keep_the_order,
    a_large_vectored_write_arrives_whole,
    writing_to_a_closed_peer_never_raises_a_signal,
    linger_has_the_value_that_was_set,
    streams_and_listeners_convert_to_std_and_back,
    readiness_is_reported_for_each_direction,
    connect_timeout_elapses,
    after_a_refusal_the_next_address_is_tried_at_once,
    after_a_delay_without_answer_the_next_address_is_tried,
    all_failed_addresses_are_named,
    a_dropped_race_leaves_nothing_behind,
    a_name_is_connected_to,
    a_name_that_does_not_resolve_is_an_error_that_names_it,
    an_invalid_address_is_refused,
    no_address_at_all_is_an_error,
    a_port_in_use_is_an_error,
    an_unreachable_host_is_an_error,
    a_full_backlog_refuses_no_client_permanently,
    a_connection_aborted_before_it_was_accepted_affects_no_other,
    a_reset_in_the_middle_is_an_error_of_both_directions,
    closing_ends_a_read_that_waits_in_another_task,
    accepting_without_a_client_would_block,
    a_broken_listener_is_distinguished,
    urgent_data_does_not_stop_the_reader,
);

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::{
        fast_open_carries_the_first_data, settings_of_linux_have_the_values_that_were_set,
    };

    crate::backends!(
        settings_of_linux_have_the_values_that_were_set,
        fast_open_carries_the_first_data,
    );
}

const LOCAL: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCAL).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// An address without a listener, reserved while this is alive.
struct Refused {
    addr: SocketAddr,
    _socket: TcpSocket,
}

impl Refused {
    fn new() -> Refused {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(LOCAL).unwrap();
        Refused { addr: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// An address that does not answer: the queue of its listener is full.
struct BlackHole {
    listener: socket2::Socket,
    addr: SocketAddr,
    _clients: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> BlackHole {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = listener.unwrap();
        listener.bind(&LOCAL.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();
        let mut clients = Vec::new();
        while let Ok(client) = TcpStream::connect_timeout(addr, Duration::from_millis(50)).await {
            clients.push(client);
        }
        BlackHole { listener, addr, _clients: clients }
    }
}

fn settings_have_the_values_that_were_set(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        let keepalive = Keepalive::new(Duration::from_secs(60))
            .with_interval(Duration::from_secs(10))
            .with_retries(4);
        let client = TcpSocket::new_v4().unwrap();
        client.set_reuseaddr(true).unwrap();
        client.set_reuseport(true).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_keepalive(keepalive).unwrap();
        client.set_send_buffer_size(20_000).unwrap();
        client.set_recv_buffer_size(30_000).unwrap();
        client.set_ttl(33).unwrap();
        client.set_tos(0x10).unwrap();
        client.set_linger(Some(Duration::ZERO)).unwrap();
        client.bind(LOCAL).unwrap();
        assert!(client.reuseaddr().unwrap() && client.reuseport().unwrap());
        assert!(client.nodelay().unwrap() && client.keepalive().unwrap());
        assert!(client.send_buffer_size().unwrap() >= 20_000);
        assert!(client.recv_buffer_size().unwrap() >= 30_000);
        assert_eq!(client.ttl().unwrap(), 33);
        assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
        let own_addr = client.local_addr().unwrap();
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        assert_eq!(client.local_addr().unwrap(), own_addr);
        assert!(client.nodelay().unwrap());
        assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
        let set = SockRef::from(&client);
        assert!(set.reuse_address().unwrap() && set.keepalive().unwrap());
        assert_eq!(set.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(set.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(set.tcp_keepalive_retries().unwrap(), 4);
        assert!(set.send_buffer_size().unwrap() >= 20_000);
        assert!(set.recv_buffer_size().unwrap() >= 30_000);
        assert_eq!((set.ttl_v4().unwrap(), set.tos_v4().unwrap()), (33, 0x10));

        // Only with IPv6.
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
        let client = TcpSocket::new_v6().unwrap();
        client.set_only_v6(true).unwrap();
        client.set_ttl(7).unwrap();
        client.set_tos(0x20).unwrap();
        assert!(client.only_v6().unwrap());
        assert_eq!(client.ttl().unwrap(), 7);
        let client = client.connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(SockRef::from(&client).only_v6().unwrap());
        assert_eq!(SockRef::from(&client).unicast_hops_v6().unwrap(), 7);
    });
}

fn connections_inherit_the_settings_of_their_listener(backend: Backend) {
    run_on(backend, async {
        let socket = TcpSocket::new_for(LOCAL).unwrap();
        socket.set_recv_buffer_size(50_000).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.bind(LOCAL).unwrap();
        let listener = socket.listen(u32::MAX).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(SockRef::from(&server).recv_buffer_size().unwrap() >= 50_000);
        assert!(server.nodelay().unwrap());
    });
}

fn a_setting_that_the_system_refuses_is_an_error(backend: Backend) {
    run_on(backend, async {
        let socket = || TcpSocket::new_v4().unwrap();
        for error in [
            socket().set_ttl(1_000).unwrap_err(),
            socket().set_keepalive(Keepalive::new(Duration::ZERO)).unwrap_err(),
            socket().bind("192.0.2.1:0".parse().unwrap()).unwrap_err(),
            socket().bind((Ipv6Addr::LOCALHOST, 0).into()).unwrap_err(),
            socket().connect((Ipv6Addr::LOCALHOST, 80).into()).await.unwrap_err(),
            socket().bind_device("no-such-device").unwrap_err(),
        ] {
            assert!(!error.to_string().is_empty());
        }
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn settings_of_linux_have_the_values_that_were_set(backend: Backend) {
    run_on(backend, async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_user_timeout(Duration::from_secs(7)).unwrap();
        let set = SockRef::from(&socket).tcp_user_timeout().unwrap();
        assert_eq!(set, Some(Duration::from_secs(7)));
        match socket.bind_device("lo") {
            Ok(()) => {
                assert_eq!(SockRef::from(&socket).device().unwrap().as_deref(), Some(&b"lo"[..]));
            }
            // It needs a privilege.
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        }
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn fast_open_carries_the_first_data(backend: Backend) {
    run_on(backend, async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_fast_open(16).unwrap();
        socket.bind(LOCAL).unwrap();
        let listener = socket.listen(16).unwrap();
        let addr = listener.local_addr().unwrap();
        // The first connection gets the cookie, if the system has this enabled.
        for _ in 0..3 {
            let client = TcpSocket::new_v4().unwrap();
            client.set_fast_open_connect(true).unwrap();
            let connecting = polyloop::spawn(async move {
                let client = client.connect(addr).await.unwrap();
                client.write_all(b"hello").await.unwrap();
                client
            });
            let (server, _) = listener.accept().await.unwrap();
            let mut buf = [0; 5];
            server.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"hello");
            server.write_all(b"back").await.unwrap();
            connecting.await.unwrap().read_exact(&mut [0; 4]).await.unwrap();
        }
    });
}

fn accepted_connections_are_close_on_exec_and_non_blocking(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        for stream in [&client, &server] {
            assert!(SockRef::from(stream).nonblocking().unwrap());
            let info = format!("/proc/self/fdinfo/{}", stream.as_fd().as_raw_fd());
            let Ok(info) = fs::read_to_string(info) else { continue };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert_ne!(flags & libc::O_CLOEXEC, 0);
        }
    });
}

fn vectored_writes_and_reads_keep_the_order(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let bufs = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"three")];
        assert_eq!(client.write_vectored(&bufs).await.unwrap(), 8);
        server.readable().await.unwrap();
        let (mut a, mut b) = ([0; 4], [0; 16]);
        let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(server.read_vectored(bufs).await.unwrap(), 8);
        assert_eq!((&a, &b[..4]), (b"onet", &b"hree"[..]));
        assert_eq!(client.try_write_vectored(&[IoSlice::new(b"x")]).unwrap(), 1);
        let bufs = &mut [IoSliceMut::new(&mut a)];
        assert_eq!(server.read_vectored(bufs).await.unwrap(), 1);
        let nothing = server.try_read_vectored(bufs).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    });
}

fn a_large_vectored_write_arrives_whole(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        SockRef::from(&client).set_send_buffer_size(4_096).unwrap();
        let mut sent = vec![0; 4 << 20];
        fastrand::Rng::with_seed(9).fill(&mut sent);
        let bytes = sent.clone();
        let sending = polyloop::spawn(async move {
            // Pieces of all sizes, so that writes end inside them.
            let mut rest = &bytes[..];
            let mut pieces = Vec::new();
            let mut size = 0;
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(size.min(rest.len()));
                pieces.push(IoSlice::new(piece));
                rest = later;
                size = (size * 7 + 1) % 100_003;
            }
            for pieces in pieces.chunks_mut(100) {
                client.write_all_vectored(pieces).await.unwrap();
            }
        });
        let mut received = vec![0; 4 << 20];
        server.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
        sending.await.unwrap();
    });
}

fn writing_to_a_closed_peer_never_raises_a_signal(backend: Backend) {
    let name = "writing_to_a_closed_peer_never_raises_a_signal";
    if !is_alone(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let signals = SignalFd::listen(libc::SIGPIPE).unwrap();
        let (client, server) = pair().await;
        server.set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        let bufs = [IoSlice::new(b"x")];
        // The first write reports the reset, later ones the broken pipe.
        for _ in 0..3 {
            assert!(client.write(b"x").await.is_err());
            assert!(client.write_vectored(&bufs).await.is_err());
            assert!(client.try_write(b"x").is_err());
            assert!(client.write_all_vectored(&mut bufs.clone()).await.is_err());
            assert_eq!(one.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(one.write_vectored(&bufs).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert!(one.send_fds(b"x", &[one.as_fd()]).await.is_err());
        }
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        for _ in 0..3 {
            assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            let error = writer.write_vectored(&bufs).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            assert!(writer.try_write(b"x").is_err());
        }
        // These calls have no flag like `MSG_NOSIGNAL`.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        for _ in 0..3 {
            let file = fs::File::open("Cargo.toml").unwrap();
            let error = client.send_file(&file, &mut (0..10)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            let (from, to_from) = UnixStream::pair().unwrap();
            to_from.write_all(b"x").await.unwrap();
            let error = Splicer::new(&from, &one).unwrap().run().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
        assert!(!signals.take().unwrap(), "SIGPIPE was raised");
    });
}

fn linger_has_the_value_that_was_set(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        assert_eq!(client.linger().unwrap(), None);
        client.set_linger(Some(Duration::from_secs(3))).unwrap();
        assert_eq!(client.linger().unwrap(), Some(Duration::from_secs(3)));
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let error = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

fn streams_and_listeners_convert_to_std_and_back(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        assert!(poll_once(listener.accept()).await.is_none());
        let listener = TcpListener::from_std(listener.into_std().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert!(poll_once(server.read(&mut [0])).await.is_none());
        let mut server = server.into_std().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"x").await.unwrap();
        // It waits, or it would return an error.
        assert_eq!(server.read(&mut [0]).unwrap(), 1);
        let server = TcpStream::from_std(server).unwrap();
        assert!(poll_once(server.read(&mut [0])).await.is_none());
        client.write_all(b"y").await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 1);
    });
}

fn readiness_is_reported_for_each_direction(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        server.ready(Direction::Write).await.unwrap();
        assert_eq!(server.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(poll_once(server.ready(Direction::Read)).await.is_none());
        let waiting = polyloop::spawn(async move {
            server.ready(Direction::Read).await.unwrap();
            server.try_read(&mut [0; 4])
        });
        polyloop::yield_now().await;
        client.write_all(b"abc").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 3);
    });
}

fn connect_timeout_elapses(backend: Backend) {
    run_on(backend, async {
        let hole = BlackHole::new().await;
        let started = Instant::now();
        let limit = Duration::from_millis(30);
        let error = TcpStream::connect_timeout(hole.addr, limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= limit);
        // A connection in time succeeds.
        let listener = TcpListener::bind(LOCAL).unwrap();
        let limit = Duration::from_secs(30);
        TcpStream::connect_timeout(listener.local_addr().unwrap(), limit).await.unwrap();
        let error = TcpStream::connect_timeout(Refused::new().addr, limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

fn after_a_refusal_the_next_address_is_tried_at_once(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        let refused = Refused::new();
        let mut addrs = vec![refused.addr; 40];
        addrs.push(listener.local_addr().unwrap());
        let started = Instant::now();
        let client = TcpStream::connect(addrs).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), listener.local_addr().unwrap());
        // With a delay for each it would take ten seconds.
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
}

fn after_a_delay_without_answer_the_next_address_is_tried(backend: Backend) {
    run_on(backend, async {
        let hole = BlackHole::new().await;
        let listener = TcpListener::bind(LOCAL).unwrap();
        let good = listener.local_addr().unwrap();
        let before = polyloop::runtime::metrics().sources;
        let started = Instant::now();
        let client = TcpStream::connect([hole.addr, good]).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());
        assert_eq!(client.peer_addr().unwrap(), good);
        drop(client);
        assert_eq!(
            polyloop::runtime::metrics().sources,
            before,
            "the losing attempt has been dropped"
        );

        // An unresponsive address between refused ones costs one delay only.
        let started = Instant::now();
        let refused = [Refused::new(), Refused::new()];
        let addrs = [refused[0].addr, hole.addr, refused[1].addr, good];
        let client = TcpStream::connect(&addrs[..]).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), good);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        // The first to answer wins, and later addresses are not tried.
        let started = Instant::now();
        let client = TcpStream::connect([good, hole.addr]).await.unwrap();
        assert_eq!(client.peer_addr().unwrap(), good);
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

fn all_failed_addresses_are_named(backend: Backend) {
    run_on(backend, async {
        let refused = [(); 3].map(|()| Refused::new());
        let addrs = refused.each_ref().map(|refused| refused.addr);
        let error = TcpStream::connect(addrs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        for addr in addrs {
            assert!(error.to_string().contains(&addr.to_string()), "{error}");
        }
    });
}

fn a_dropped_race_leaves_nothing_behind(backend: Backend) {
    run_on(backend, async {
        let hole = BlackHole::new().await;
        let before = polyloop::runtime::metrics().sources;
        let addrs = [hole.addr; 4];
        for limit_ms in [1, 300] {
            let limit = Duration::from_millis(limit_ms);
            let error = TcpStream::connect_timeout(addrs, limit).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(polyloop::runtime::metrics().sources, before);
        }
    });
}

fn a_name_is_connected_to(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Also if the name resolves to an IPv6 address without a listener first.
        let by_name = TcpStream::connect(format!("localhost:{port}")).await.unwrap();
        assert_eq!(by_name.peer_addr().unwrap().port(), port);
        TcpStream::connect(("localhost", port)).await.unwrap();
        TcpStream::connect(("localhost".to_owned(), port)).await.unwrap();
        let addrs = lookup_host(("localhost", port)).await.unwrap();
        assert!(addrs.iter().all(|addr| addr.ip().is_loopback()), "{addrs:?}");
    });
}

fn a_name_that_does_not_resolve_is_an_error_that_names_it(backend: Backend) {
    run_on(backend, async {
        // No name server may resolve it (RFC 6761). Without a name server the lookup may take long.
        for name in ["no-such-host.invalid", "a name with spaces", "nul\0inside"] {
            let error = TcpStream::connect((name, 80)).await.unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
        // The loop continues meanwhile, unless the system answers at once.
        let mut looking = pin!(lookup_host("another-host.invalid:80"));
        let looked_up = match poll_once(looking.as_mut()).await {
            Some(at_once) => at_once,
            None => {
                polyloop::sleep(Duration::from_millis(1)).await;
                looking.await
            }
        };
        assert!(looked_up.is_err());
    });
}

fn an_invalid_address_is_refused(backend: Backend) {
    run_on(backend, async {
        for text in ["", "localhost", "localhost:", "localhost:http", "localhost:65536", ":80"] {
            let error = TcpStream::connect(text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}: {error}");
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    });
}

fn no_address_at_all_is_an_error(backend: Backend) {
    run_on(backend, async {
        let error = TcpStream::connect(Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let none: &[SocketAddr] = &[];
        assert_eq!(TcpListener::bind(none).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

fn a_port_in_use_is_an_error(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        let addr = listener.local_addr().unwrap();
        assert_eq!(TcpListener::bind(addr).unwrap_err().kind(), ErrorKind::AddrInUse);
        let error = TcpSocket::new_v4().unwrap().bind(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        // It is free again at once, although connections are still closing.
        let client = TcpStream::connect(addr).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        drop(server);
        drop(listener);
        drop(client);
        TcpListener::bind(addr).unwrap();
    });
}

fn an_unreachable_host_is_an_error(backend: Backend) {
    run_on(backend, async {
        // A stream cannot connect to the broadcast address.
        let everybody = SocketAddr::from((Ipv4Addr::BROADCAST, 80));
        let limit = Duration::from_secs(30);
        let error = TcpStream::connect_timeout(everybody, limit).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{error}");
        // From a loopback address no other network is reached.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(LOCAL).unwrap();
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let connecting = polyloop::timeout(Duration::from_millis(100), socket.connect(elsewhere));
        assert!(!matches!(connecting.await, Ok(Ok(_))));
    });
}

fn a_full_backlog_refuses_no_client_permanently(backend: Backend) {
    run_on(backend, async {
        let hole = BlackHole::new().await;
        let mut waiting = pin!(TcpStream::connect(hole.addr));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        // The server starts to accept, and the kernel retries within a second or two.
        hole.listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(hole.listener.into()).unwrap();
        let accepting = polyloop::spawn(async move {
            loop {
                drop(listener.accept().await.unwrap());
            }
        });
        waiting.await.unwrap();
        accepting.abort();
    });
}

fn a_connection_aborted_before_it_was_accepted_affects_no_other(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(poll_once(listener.accept()).await.is_none());
        for _ in 0..10 {
            let rude = TcpStream::connect(addr).await.unwrap();
            rude.set_linger(Some(Duration::ZERO)).unwrap();
        }
        let polite = TcpStream::connect(addr).await.unwrap();
        polite.write_all(b"x").await.unwrap();
        // The aborted ones are returned first, or not at all.
        loop {
            let (server, peer) = listener.accept().await.unwrap();
            let read = server.read(&mut [0]).await;
            if peer == polite.local_addr().unwrap() {
                assert_eq!(read.unwrap(), 1);
                break;
            }
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    });
}

fn a_reset_in_the_middle_is_an_error_of_both_directions(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let (reader, writer) = server.into_split();
        let reading = polyloop::spawn(async move { reader.read_exact(&mut [0; 10]).await });
        let writing = polyloop::spawn(async move { writer.write_all(&vec![0; 16 << 20]).await });
        client.write_all(b"half").await.unwrap();
        polyloop::sleep(Duration::from_millis(5)).await;
        client.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        let mut kinds = Vec::new();
        for ended in [reading.await.unwrap(), writing.await.unwrap()] {
            match ended {
                // The first operation gets the error; the other gets the end of the stream.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
                Err(error) => kinds.push(error.kind()),
                Ok(()) => panic!("it succeeded"),
            }
        }
        // libkqueue consumes the error of the socket; the broken pipe is left.
        let expects_reset = !is_libkqueue(backend);
        assert!(!expects_reset || kinds.contains(&ErrorKind::ConnectionReset), "{kinds:?}");
        assert!(!kinds.is_empty(), "no task got the error");
        assert!(kinds.iter().all(|kind| expected.contains(kind)), "{kinds:?}");
    });
}

fn closing_ends_a_read_that_waits_in_another_task(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let server = Rc::new(server);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let server = Rc::clone(&server);
                polyloop::spawn(async move { server.read(&mut [0]).await })
            })
            .collect();
        polyloop::yield_now().await;
        server.shutdown(Shutdown::Both).unwrap();
        for reader in readers {
            assert_eq!(reader.await.unwrap().unwrap(), 0);
        }
        assert_eq!(server.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    });
}

fn accepting_without_a_client_would_block(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind(LOCAL).unwrap();
        assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.readable().await.unwrap();
        let (_, peer) = listener.try_accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

fn a_broken_listener_is_distinguished(backend: Backend) {
    run_on(backend, async {
        // A socket that does not listen.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let listener = TcpListener::from_std(socket.unwrap().into()).unwrap();
        let error = listener.accept().await.unwrap_err();
        assert_eq!(AcceptErrorKind::from_error(&error), AcceptErrorKind::Listener, "{error}");
        // A server does not spin, but returns the error.
        let server = polyloop::net::Server::from_listener(listener);
        let ended = server.serve(async |_, _| -> io::Result<()> { Ok(()) }).await;
        assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    });
}

fn urgent_data_does_not_stop_the_reader(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        // Registered, so that readiness is remembered.
        assert!(poll_once(server.read(&mut [0])).await.is_none());
        client.write_all(b"before").await.unwrap();
        SockRef::from(&client).send_out_of_band(b"!").unwrap();
        client.write_all(b"after").await.unwrap();
        // All of it has arrived when the loop polls for events, and the kernel ends a read at the urgent byte.
        polyloop::yield_now().await;
        let mut buf = [0; 64];
        let mut received = Vec::new();
        while received.len() < 11 {
            let n = server.read(&mut buf).await.unwrap();
            received.extend_from_slice(&buf[..n]);
        }
        assert_eq!(received, b"beforeafter");
    });
}
