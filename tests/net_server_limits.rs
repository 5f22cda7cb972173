//! Aim: a server notifies its handlers of a shutdown, closes idle connections, and by default leaves descriptors
//! for its handlers.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polyloop::future::Either;
use polyloop::io::copy;
use polyloop::net::{Server, TcpStream};
use polyloop::{Backend, race};

use common::{TIME_LIMIT, process, role, run_on};

backends!(
    handlers_are_notified_of_a_shutdown,
    a_session_knows_its_peer_and_whether_a_shutdown_is_requested,
    a_silent_client_is_closed_and_a_busy_one_is_not,
    a_client_that_does_not_read_is_closed,
    a_silent_client_is_closed_during_a_shutdown,
    without_an_idle_timeout_a_silent_client_may_stay,
);

/// The idle timeout: long enough for a busy machine, and short to wait for.
const IDLE: Duration = Duration::from_millis(400);

async fn talk(client: &TcpStream) {
    client.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    client.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
}

fn handlers_are_notified_of_a_shutdown(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap().shutdown_timeout(TIME_LIMIT);
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, session| {
            match race(session.shutdown_requested(), stream.read(&mut [0])).await {
                Either::Left(()) => stream.write_all(b"goodbye").await,
                Either::Right(_) => panic!("the client sent nothing"),
            }
        }));
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(addr).await.unwrap());
        }
        while handle.open_connections() < clients.len() {
            polyloop::yield_now().await;
        }
        handle.shutdown();
        for client in &clients {
            let mut buf = [0; 7];
            client.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"goodbye");
        }
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.aborted), (20, 0));
    });
}

fn a_session_knows_its_peer_and_whether_a_shutdown_is_requested(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let in_handler = handle.clone();
        let serving = polyloop::spawn(server.serve(async move |stream: TcpStream, session| {
            assert_eq!(*session.peer(), stream.peer_addr()?);
            assert!(!session.is_shutdown_requested());
            in_handler.shutdown();
            assert!(session.is_shutdown_requested());
            session.shutdown_requested().await;
            Ok(())
        }));
        let _client = TcpStream::connect(addr).await.unwrap();
        assert_eq!(serving.await.unwrap().unwrap().served, 1);
    });
}

fn a_silent_client_is_closed_and_a_busy_one_is_not(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap().idle_timeout(IDLE);
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(
            server.serve(async |stream: TcpStream, _| copy(&stream, &stream).await.map(drop)),
        );
        let busy = TcpStream::connect(addr).await.unwrap();
        let start = Instant::now();
        let silent = TcpStream::connect(addr).await.unwrap();
        let ended = polyloop::spawn(async move {
            let end = silent.read(&mut [0]).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            start.elapsed()
        });
        while !ended.is_finished() {
            talk(&busy).await;
            polyloop::sleep(IDLE / 20).await;
        }
        assert!(ended.await.unwrap() >= IDLE, "it was closed before the timeout");
        // It has been open for longer than the timeout.
        talk(&busy).await;
        drop(busy);
        while handle.open_connections() > 0 {
            polyloop::yield_now().await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.idle), (1, 1));
    });
}

fn a_client_that_does_not_read_is_closed(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap().idle_timeout(IDLE);
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
            loop {
                stream.write_all(&[0; 64 * 1024]).await?;
            }
        }));
        let _client = TcpStream::connect(addr).await.unwrap();
        while handle.open_connections() == 0 {
            polyloop::yield_now().await;
        }
        while handle.open_connections() > 0 {
            polyloop::sleep(IDLE / 20).await;
        }
        handle.shutdown();
        assert_eq!(serving.await.unwrap().unwrap().idle, 1);
    });
}

fn a_silent_client_is_closed_during_a_shutdown(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.idle_timeout(IDLE).shutdown_timeout(TIME_LIMIT);
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _session| {
            copy(&stream, &stream).await?;
            Ok(())
        }));
        let client = TcpStream::connect(addr).await.unwrap();
        talk(&client).await;
        // The handler ignores it.
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.idle, report.aborted), (1, 0));
    });
}

fn without_an_idle_timeout_a_silent_client_may_stay(backend: Backend) {
    // In virtual time a year takes no longer than a day.
    let runtime = polyloop::Runtime::builder().backend(backend).virtual_time(true).build().unwrap();
    runtime
        .block_on(async {
            let server = Server::bind("127.0.0.1:0").unwrap();
            let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
            let serving = polyloop::spawn(
                server.serve(async |stream: TcpStream, _| copy(&stream, &stream).await.map(drop)),
            );
            let client = TcpStream::connect(addr).await.unwrap();
            talk(&client).await;
            polyloop::sleep(Duration::from_secs(365 * 86_400)).await;
            talk(&client).await;
            drop(client);
            while handle.open_connections() > 0 {
                polyloop::yield_now().await;
            }
            handle.shutdown();
            assert_eq!(serving.await.unwrap().unwrap().served, 1);
        })
        .unwrap();
}

/// The limit on descriptors of the server's process.
const N_DESCRIPTORS: usize = 128;

#[test]
fn an_eighth_of_the_descriptors_is_reserved_by_default() {
    if role().is_some() {
        return serve_by_default(Backend::Poll);
    }
    let test = "an_eighth_of_the_descriptors_is_reserved_by_default";
    an_eighth_is_left(test, N_DESCRIPTORS, N_DESCRIPTORS);
}

/// The descriptors that select can watch, whatever the limit of the process: `FD_SETSIZE`.
const N_WATCHABLE: usize = 1_024;

#[test]
fn a_select_loop_accepts_by_default_only_what_it_can_register() {
    if role().is_some() {
        return serve_by_default(Backend::Select);
    }
    if polyloop::driver::socket::max_descriptors().is_some_and(|limit| limit < N_WATCHABLE) {
        return println!("this process cannot have as many clients as it takes");
    }
    let test = "a_select_loop_accepts_by_default_only_what_it_can_register";
    an_eighth_is_left(test, 4 * N_WATCHABLE, N_WATCHABLE);
}

/// Runs `test` as a server that may have `n_descriptors` and can use `n_usable` of them.
fn an_eighth_is_left(test: &str, n_descriptors: usize, n_usable: usize) {
    let inner = process(test, "server");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {n_descriptors} && exec \"$0\" \"$@\"")]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let addr: net::SocketAddr = loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the server printed no address");
        if let Some((_, addr)) = line.split_once("listening on ") {
            break addr.trim().parse().unwrap();
        }
    };

    let connect = |_| {
        let client = net::TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        (&client).write_all(b"hello").unwrap();
        client
    };
    // Clients are accepted in the order in which they connected.
    let n_served = n_usable - n_usable / 8;
    let mut clients: Vec<_> = (0..n_served + 10).map(connect).collect();
    for client in &mut clients[..n_served] {
        client.read_exact(&mut [0; 5]).unwrap();
    }
    let waiting = &mut clients[n_served];
    waiting.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let error = waiting.read_exact(&mut [0; 5]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    waiting.set_read_timeout(Some(TIME_LIMIT)).unwrap();
    drop(clients.remove(0));
    clients[n_served - 1].read_exact(&mut [0; 5]).unwrap();

    drop(clients);
    drop(child.stdin.take());
    let mut printed = String::new();
    output.read_to_string(&mut printed).unwrap();
    assert!(child.wait().unwrap().success(), "{printed}");
    assert!(printed.contains("no client was refused"), "{printed}");
}

/// Serves until stdin ends, and prints the outcome.
fn serve_by_default(backend: Backend) {
    run_on(backend, async {
        let server = Server::bind("127.0.0.1:0").unwrap();
        println!("listening on {}", server.local_addrs()[0]);
        let handle = server.shutdown_handle();
        let serving = polyloop::spawn(
            server.serve(async |stream: TcpStream, _| copy(&stream, &stream).await.map(drop)),
        );
        polyloop::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
            .await
            .unwrap()
            .unwrap();
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.refused, 0, "{report:?}");
        println!("no client was refused");
    });
}
