//! An echo server and its clients, through the facade, on every backend.

mod common;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use polyloop::net::{TcpListener, TcpStream};
use polyloop::{Backend, JoinHandle};

use common::{is_alone, is_libkqueue, process, role, run_on};

backends!(
    one_client_gets_back_what_it_sent,
    many_clients_at_once_get_their_own_bytes_back,
    a_mebibyte_each_way_arrives_unchanged,
    data_sent_before_a_half_close_still_comes_back,
    a_reset_ends_one_connection_and_no_other,
    a_slow_reader_blocks_the_writer,
    peek_leaves_the_data,
    read_exact_reports_an_early_end,
    closing_twice_is_harmless,
    writing_to_a_closed_peer_is_an_error_without_a_signal,
    a_refused_connection_is_an_error,
    several_readers_of_one_stream_are_all_woken,
    halves_reunite_only_with_their_counterpart,
    dropping_the_owned_write_half_ends_the_stream,
    steady_messages_cost_one_read_and_one_write,
    short_connections_leave_no_descriptor_behind,
);

async fn echo(stream: TcpStream) -> io::Result<u64> {
    let mut buf = vec![0; 4_096];
    let mut total = 0;
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(total);
        }
        stream.write_all(&buf[..n]).await?;
        total += n as u64;
    }
}

/// Starts an echo server.
fn start_server() -> (SocketAddr, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = polyloop::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            polyloop::spawn(echo(stream));
        }
    });
    (addr, server)
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; n];
    random.fill(&mut bytes);
    bytes
}

fn one_client_gets_back_what_it_sent(backend: Backend) {
    run_on(backend, async {
        let (addr, server) = start_server();
        let client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        client.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"hello");
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
    });
}

fn many_clients_at_once_get_their_own_bytes_back(backend: Backend) {
    let name = format!("on_{backend}::many_clients_at_once_get_their_own_bytes_back");
    match role().as_deref() {
        // The server has a separate process, because select's descriptors end at 1,023,
        None | Some("alone") if !is_alone(&name) => {}
        // and the clients another one.
        None | Some("alone") => run_on(backend, async move {
            let (addr, _server) = start_server();
            let mut clients = process(&name, &addr.to_string());
            let status = polyloop::spawn_blocking(move || clients.status().unwrap()).await.unwrap();
            assert!(status.success(), "the clients: {status}");
        }),
        Some(addr) => {
            let n_clients = match backend {
                Backend::Select => 900,
                _ if is_libkqueue(backend) => 200,
                _ => 1_000,
            };
            run_on(Backend::Poll, be_many_clients(addr.parse().unwrap(), n_clients));
        }
    }
}

/// Connects `n_clients` clients, which then exchange messages concurrently.
async fn be_many_clients(addr: SocketAddr, n_clients: u64) {
    let mut clients = Vec::new();
    for seed in 0..n_clients {
        clients.push((seed, TcpStream::connect(addr).await.unwrap()));
    }
    let talk = async |seed: u64, client: TcpStream| {
        let sent = random_bytes(100 + seed as usize % 900, seed);
        let mut received = vec![0; sent.len()];
        for _ in 0..5 {
            client.write_all(&sent).await.unwrap();
            client.read_exact(&mut received).await.unwrap();
            assert_eq!(sent, received);
        }
    };
    let talks = clients.into_iter().map(|(seed, client)| polyloop::spawn(talk(seed, client)));
    for task in talks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

fn a_mebibyte_each_way_arrives_unchanged(backend: Backend) {
    run_on(backend, async {
        let (addr, _server) = start_server();
        let (reader, writer) = TcpStream::connect(addr).await.unwrap().into_split();
        let sent = random_bytes(1 << 20, 7);
        let expected = sent.clone();
        let sending = polyloop::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            // Dropping the half ends the stream.
        });
        let mut received = Vec::new();
        let mut buf = vec![0; 10_000];
        loop {
            let n = reader.read(&mut buf).await.unwrap();
            if n == 0 {
                break;
            }
            received.extend_from_slice(&buf[..n]);
        }
        sending.await.unwrap();
        assert!(received == expected, "{} bytes came back", received.len());
    });
}

fn data_sent_before_a_half_close_still_comes_back(backend: Backend) {
    run_on(backend, async {
        let (addr, _server) = start_server();
        let client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"last words").await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut buf = [0; 10];
        client.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"last words");
        assert_eq!(client.read(&mut buf).await.unwrap(), 0);
        // The end of the stream is permanent.
        assert_eq!(client.read(&mut buf).await.unwrap(), 0);
    });
}

fn a_reset_ends_one_connection_and_no_other(backend: Backend) {
    run_on(backend, async {
        let (rude, server_of_rude) = pair().await;
        let (polite, server_of_polite) = pair().await;
        let broken = polyloop::spawn(echo(server_of_rude));
        let fine = polyloop::spawn(echo(server_of_polite));
        polyloop::yield_now().await;

        socket2::SockRef::from(&rude).set_linger(Some(Duration::ZERO)).unwrap();
        drop(rude);
        let outcome = broken.await.unwrap().map_err(|error| error.kind());
        if !is_libkqueue(backend) {
            assert_eq!(outcome, Err(io::ErrorKind::ConnectionReset));
        }

        polite.write_all(b"still here").await.unwrap();
        let mut buf = [0; 10];
        polite.read_exact(&mut buf).await.unwrap();
        drop(polite);
        assert_eq!(fine.await.unwrap().unwrap(), 10);
    });
}

fn a_slow_reader_blocks_the_writer(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pair().await;
        let block = random_bytes(64 * 1_024, 3);
        let filled = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = std::rc::Rc::clone(&filled);
        let payload = block.clone();
        let writing = polyloop::spawn(async move {
            for _ in 0..512 {
                writer.write_all(&payload).await.unwrap();
                count.set(count.get() + 1);
            }
        });
        // The writer continues until the kernel's buffers are full.
        let mut before = usize::MAX;
        while before != filled.get() {
            before = filled.get();
            polyloop::sleep(Duration::from_millis(50)).await;
        }
        assert!(before < 512, "32 MiB were buffered");

        let mut buf = vec![0; block.len()];
        for _ in 0..512 {
            reader.read_exact(&mut buf).await.unwrap();
            assert!(buf == block);
        }
        writing.await.unwrap();
        assert_eq!(reader.read(&mut buf).await.unwrap(), 0);
    });
}

fn peek_leaves_the_data(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let mut buf = [0; 8];
        assert_eq!(server.try_peek(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        client.write_all(b"abc").await.unwrap();
        assert_eq!(server.peek(&mut buf).await.unwrap(), 3);
        assert_eq!(server.try_peek(&mut buf).unwrap(), 3);
        assert_eq!(server.read(&mut buf).await.unwrap(), 3);
        assert_eq!(&buf[..3], b"abc");
    });
}

fn read_exact_reports_an_early_end(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        client.write_all(b"abc").await.unwrap();
        drop(client);
        let error = server.read_exact(&mut [0; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

fn closing_twice_is_harmless(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        for how in [Shutdown::Write, Shutdown::Write, Shutdown::Both, Shutdown::Both] {
            client.shutdown(how).unwrap();
        }
        socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        client.shutdown(Shutdown::Both).unwrap();
    });
}

fn writing_to_a_closed_peer_is_an_error_without_a_signal(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        drop(server);
        let error = loop {
            if let Err(error) = client.write_all(b"anybody there?").await {
                break error;
            }
        };
        let expected = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(expected.contains(&error.kind()), "{error}");
    });
}

fn a_refused_connection_is_an_error(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let error = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

fn several_readers_of_one_stream_are_all_woken(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let server = std::rc::Rc::new(server);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let server = std::rc::Rc::clone(&server);
                polyloop::spawn(async move {
                    let mut byte = [0];
                    server.read_exact(&mut byte).await.unwrap();
                    byte[0]
                })
            })
            .collect();
        polyloop::yield_now().await;
        client.write_all(&[1, 2, 3, 4, 5]).await.unwrap();
        let mut bytes = Vec::new();
        for reader in readers {
            bytes.push(reader.await.unwrap());
        }
        bytes.sort_unstable();
        assert_eq!(bytes, [1, 2, 3, 4, 5]);
    });
}

fn halves_reunite_only_with_their_counterpart(backend: Backend) {
    run_on(backend, async {
        let (one, other) = pair().await;
        let (one_reader, one_writer) = one.into_split();
        let (other_reader, other_writer) = other.into_split();
        assert_eq!(one_reader.local_addr().unwrap(), other_writer.peer_addr().unwrap());
        assert_eq!(one_writer.as_ref().peer_addr().unwrap(), other_reader.local_addr().unwrap());
        let strangers = one_reader.reunite(other_writer).unwrap_err();
        let (one_reader, other_writer) = (strangers.0, strangers.1);
        let one = one_reader.reunite(one_writer).unwrap();
        let other = other_reader.reunite(other_writer).unwrap();
        one.write_all(b"whole").await.unwrap();
        other.read_exact(&mut [0; 5]).await.unwrap();
    });
}

fn dropping_the_owned_write_half_ends_the_stream(backend: Backend) {
    run_on(backend, async {
        let (one, other) = pair().await;
        let (reader, writer) = one.into_split();
        drop(writer);
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        // The other direction is still open.
        other.write_all(b"x").await.unwrap();
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 1);
    });
}

fn steady_messages_cost_one_read_and_one_write(backend: Backend) {
    const N_MESSAGES: u64 = 200;
    // The client is on another loop, so that only the server's calls are counted.
    let (counts, addr) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        run_on(backend, async move {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            counts.send(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut buf = [0; 4_096];
            // Blocks before the client starts, because a fast client might delay that.
            assert!(polyloop::timeout(Duration::ZERO, stream.read(&mut buf)).await.is_err());
            stream.write_all(b"!").await.unwrap();
            let mut before = polyloop::runtime::metrics();
            for message in 0..N_MESSAGES + 10 {
                if message == 10 {
                    before = polyloop::runtime::metrics();
                }
                let n = stream.read(&mut buf).await.unwrap();
                stream.write_all(&buf[..n]).await.unwrap();
            }
            let after = polyloop::runtime::metrics();
            (
                after.io_calls - before.io_calls,
                after.control_calls - before.control_calls,
                after.waits - before.waits,
            )
        })
    });
    let addr = addr.recv().unwrap();
    run_on(backend, async move {
        let client = TcpStream::connect(addr).await.unwrap();
        client.set_nodelay(true).unwrap();
        client.read_exact(&mut [0]).await.unwrap();
        let mut buf = [0; 64];
        for _ in 0..N_MESSAGES + 10 {
            client.write_all(&buf.clone()).await.unwrap();
            client.read_exact(&mut buf).await.unwrap();
        }
    });
    let (io_calls, control_calls, waits) = server.join().unwrap();
    if backend == Backend::Kqueue {
        // A short read proves nothing there, so another read may be needed.
        assert!((2 * N_MESSAGES..=3 * N_MESSAGES).contains(&io_calls), "{io_calls}");
    } else {
        assert_eq!(io_calls, 2 * N_MESSAGES, "one read and one write per message");
    }
    assert_eq!(control_calls, 0);
    assert!(waits <= N_MESSAGES + 2, "{waits} waits for {N_MESSAGES} messages");
}

fn short_connections_leave_no_descriptor_behind(backend: Backend) {
    if !is_alone(&format!("on_{backend}::short_connections_leave_no_descriptor_behind")) {
        return;
    }
    run_on(backend, async {
        let (addr, _server) = start_server();
        let exchange = async || {
            let client = TcpStream::connect(addr).await.unwrap();
            // No TIME_WAIT: ten thousand of them would use up the ports of a busy machine.
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            client.write_all(b"hi").await.unwrap();
            let mut buf = [0; 2];
            client.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"hi");
        };
        exchange().await;
        let before = common::open_fds();
        for _ in 0..10_000 {
            exchange().await;
        }
        // The tasks of the last connections may not have got the end yet.
        for _ in 0..100 {
            polyloop::sleep(Duration::from_millis(1)).await;
            if common::open_fds() <= before {
                break;
            }
        }
        assert!(common::open_fds() <= before, "{before:?} before, {:?} after", common::open_fds());
        assert!(polyloop::runtime::metrics().sources <= 2, "{:?}", polyloop::runtime::metrics());
    });
}
