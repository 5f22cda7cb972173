//! Aim: `Server` survives what listeners meet in production, on every backend.

mod common;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use polyloop::io::copy;
use polyloop::net::{
    Server, ServerEvent, ServerReport, ShutdownHandle, TcpSocket, TcpStream, UnixListener,
    UnixStream,
};
use polyloop::{Backend, JoinHandle, Runtime};

use common::{is_alone, process, role, run_on};

backends!(
    every_client_is_served_and_counted,
    clients_above_the_limit_wait_in_the_queue,
    errors_and_panics_of_handlers_are_reported_and_affect_no_other,
    a_shutdown_lets_open_connections_finish,
    connections_that_exceed_the_shutdown_timeout_are_aborted,
    dropping_the_server_aborts_all_connections,
    several_listeners_take_turns,
    two_servers_share_one_port,
    unix_sockets_are_served,
    exhausted_descriptors_do_not_make_the_server_spin,
    clients_are_refused_after_the_exhaustion_timeout,
    a_connection_that_ends_frees_a_descriptor_for_the_next,
    the_server_survives_ten_thousand_clients_that_leave_at_once,
    silent_clients_do_not_keep_others_from_being_served,
    each_reset_ends_one_connection,
    a_burst_of_clients_does_not_delay_timers,
);

type Serving = JoinHandle<io::Result<ServerReport>>;

/// Starts a server that echoes.
fn start(server: Server) -> (SocketAddr, ShutdownHandle, Serving) {
    let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
    let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
        copy(&stream, &stream).await?;
        Ok(())
    }));
    (addr, handle, serving)
}

fn server() -> Server {
    Server::bind("127.0.0.1:0").unwrap()
}

/// Sends a word and waits for it to come back.
async fn talk(client: &TcpStream) {
    client.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    client.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
}

/// Fails if one step of a test takes too long.
async fn in_time<F: Future>(step: F) -> F::Output {
    polyloop::timeout(common::TIME_LIMIT, step).await.expect("the test makes no progress")
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).await.unwrap();
    // No TIME_WAIT: thousands of them would use up the ports of a busy machine.
    client.set_linger(Some(Duration::ZERO)).unwrap();
    client
}

/// Closes the connection gracefully, and waits until the server has noticed.
async fn leave(client: TcpStream) {
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

fn every_client_is_served_and_counted(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server());
        for _ in 0..50 {
            let client = connect(addr).await;
            talk(&client).await;
            leave(client).await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.failed, report.aborted), (50, 0, 0));
    });
}

fn clients_above_the_limit_wait_in_the_queue(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server().max_connections(2));
        let (one, two) = (connect(addr).await, connect(addr).await);
        talk(&one).await;
        talk(&two).await;
        // It is connected, but the server does not accept it.
        let third = connect(addr).await;
        third.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        let early = polyloop::timeout(Duration::from_millis(50), third.read(&mut buf)).await;
        assert!(early.is_err());
        assert_eq!(handle.open_connections(), 2);
        leave(one).await;
        third.read_exact(&mut buf).await.unwrap();
        assert_eq!(handle.open_connections(), 2);

        let others: Vec<_> = (0..20)
            .map(|_| {
                let handle = handle.clone();
                polyloop::spawn(async move {
                    let client = connect(addr).await;
                    talk(&client).await;
                    assert!(handle.open_connections() <= 2);
                    leave(client).await;
                })
            })
            .collect();
        leave(two).await;
        leave(third).await;
        for client in others {
            client.await.unwrap();
        }
        handle.shutdown();
        assert_eq!(serving.await.unwrap().unwrap().served, 23);
    });
}

fn errors_and_panics_of_handlers_are_reported_and_affect_no_other(backend: Backend) {
    run_on(backend, async {
        let events = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&events);
        let server = server().on_event(move |event| {
            match event {
                ServerEvent::HandlerFailed(_, error) => seen.borrow_mut().push(error.to_string()),
                ServerEvent::HandlerPanicked(peer) => {
                    seen.borrow_mut().push(format!("panic {}", peer.port()))
                }
                // With faults injected into `accept`, these are reported as well.
                _ => {}
            }
        });
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
            let mut command = [0];
            stream.read_exact(&mut command).await?;
            match &command {
                b"e" => Err(io::Error::other("on purpose")),
                b"p" => panic!("on purpose"),
                _ => stream.write_all(&command).await,
            }
        }));
        let bystander = connect(addr).await;
        let mut expected = Vec::new();
        for command in [b"e", b"p", b"e"] {
            let client = connect(addr).await;
            client.write_all(command).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            expected.push(match command {
                b"p" => format!("panic {}", client.local_addr().unwrap().port()),
                _ => "on purpose".to_owned(),
            });
        }
        bystander.write_all(b"x").await.unwrap();
        bystander.read_exact(&mut [0]).await.unwrap();
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.failed), (1, 3));
        assert_eq!(*events.borrow(), expected);
    });
}

fn a_shutdown_lets_open_connections_finish(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server());
        let client = connect(addr).await;
        talk(&client).await;
        handle.shutdown();
        // Until the server has closed its listener; its port may have been taken by now.
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            socket.listen(1)
        };
        while listen().is_err() {
            polyloop::yield_now().await;
        }
        // No new client is accepted, but this one is still served.
        talk(&client).await;
        assert_eq!(handle.open_connections(), 1);
        leave(client).await;
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.aborted, 0);
    });
}

fn connections_that_exceed_the_shutdown_timeout_are_aborted(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server().shutdown_timeout(Duration::from_millis(20)));
        let clients = [connect(addr).await, connect(addr).await];
        for client in &clients {
            talk(client).await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.aborted), (0, 2));
        for client in &clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        assert_eq!(handle.open_connections(), 0);
    });
}

fn dropping_the_server_aborts_all_connections(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server());
        let client = connect(addr).await;
        talk(&client).await;
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(handle.open_connections(), 0);
    });
}

fn several_listeners_take_turns(backend: Backend) {
    run_on(backend, async {
        let other = polyloop::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server().listener(other);
        let addrs = server.local_addrs();
        let (_, handle, serving) = start(server);
        for i in 0..10 {
            let client = connect(addrs[i % 2]).await;
            talk(&client).await;
            leave(client).await;
        }
        handle.shutdown();
        assert_eq!(serving.await.unwrap().unwrap().served, 10);
    });
}

fn two_servers_share_one_port(backend: Backend) {
    run_on(backend, async {
        let listen = |addr: SocketAddr| {
            let socket = TcpSocket::new_for(addr)?;
            socket.set_reuseport(true)?;
            socket.bind(addr)?;
            socket.listen(128)
        };
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = listen(first.local_addr().unwrap()).unwrap();
        // Without `SO_REUSEPORT` the address is in use.
        let third = Server::bind(first.local_addr().unwrap());
        assert_eq!(third.unwrap_err().kind(), ErrorKind::AddrInUse);
        let (addr, stop_first, serving_first) = start(Server::from_listener(first));
        let (_, stop_second, serving_second) = start(Server::from_listener(second));
        for _ in 0..40 {
            let client = connect(addr).await;
            talk(&client).await;
            leave(client).await;
        }
        stop_first.shutdown();
        stop_second.shutdown();
        let first = serving_first.await.unwrap().unwrap().served;
        let second = serving_second.await.unwrap().unwrap().served;
        assert_eq!(first + second, 40);
        if cfg!(target_os = "linux") {
            assert!(first > 0 && second > 0, "{first} and {second}");
        }
    });
}

fn unix_sockets_are_served(backend: Backend) {
    run_on(backend, async {
        let name =
            |i| std::env::temp_dir().join(format!("polyloop-{}-{backend}-{i}", std::process::id()));
        let paths = [name(1), name(2)];
        let listeners = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
        let n_events = Rc::new(Cell::new(0));
        let count = Rc::clone(&n_events);
        let [one, two] = listeners;
        let server = Server::from_listener(one).listener(two).on_event(move |event| {
            assert!(
                matches!(&event, ServerEvent::HandlerFailed(peer, _) if peer.is_unnamed()),
                "{event}"
            );
            count.set(count.get() + 1);
        });
        let addrs = server.local_addrs();
        assert_eq!(
            addrs.iter().map(|addr| addr.as_pathname()).collect::<Vec<_>>(),
            [Some(&*paths[0]), Some(&*paths[1])]
        );
        let handle = server.shutdown_handle();
        let serving = polyloop::spawn(server.serve(async |stream: UnixStream, _| {
            match copy(&stream, &stream).await? {
                0 => Err(io::Error::other("the client sent nothing")),
                _ => Ok(()),
            }
        }));
        for path in &paths {
            drop(UnixStream::connect(path).await.unwrap());
            let client = UnixStream::connect(path).await.unwrap();
            client.write_all(b"hello").await.unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            copy(&client, &mut answer).await.unwrap();
            assert_eq!(answer, b"hello");
        }
        while handle.open_connections() > 0 {
            polyloop::yield_now().await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.failed, n_events.get()), (2, 2, 2));
        assert!(
            paths.iter().all(|path| !path.exists()),
            "the files are removed with their listeners"
        );
    });
}

/// Runs a test in a separate process with a low limit on descriptors. Returns false in the runner's process.
fn has_few_descriptors(test: &str) -> bool {
    if role().is_some() {
        return true;
    }
    let inner = process(test, "few");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "in a separate process: {printed}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Opens files until `n_left` more can be opened.
fn fill_table(n_left: usize) -> Vec<File> {
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    files.truncate(files.len() - n_left);
    files
}

fn exhausted_descriptors_do_not_make_the_server_spin(backend: Backend) {
    let name = "exhausted_descriptors_do_not_make_the_server_spin";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let n_reports = Rc::new(Cell::new(0));
        let count = Rc::clone(&n_reports);
        let server = server().on_event(move |event| {
            assert!(matches!(event, ServerEvent::Exhausted(_)), "{event}");
            count.set(count.get() + 1);
        });
        let (addr, handle, serving) = start(server.exhaustion_timeout(Duration::MAX));
        let bystander = connect(addr).await;
        talk(&bystander).await;
        let files = fill_table(3);
        let clients = [connect(addr).await, connect(addr).await, connect(addr).await];
        while n_reports.get() == 0 {
            polyloop::yield_now().await;
        }
        let before = polyloop::runtime::metrics();
        polyloop::sleep(Duration::from_millis(300)).await;
        let after = polyloop::runtime::metrics();
        assert!(after.polls - before.polls < 50, "{before:?}, {after:?}");
        assert!(after.waits - before.waits < 50, "{before:?}, {after:?}");
        // An open connection is not affected.
        talk(&bystander).await;

        drop(files);
        for client in &clients {
            talk(client).await;
        }
        assert_eq!(n_reports.get(), 1, "reported once for the whole series");
        for client in clients.into_iter().chain([bystander]) {
            leave(client).await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.refused), (4, 0));
    });
}

fn clients_are_refused_after_the_exhaustion_timeout(backend: Backend) {
    let name = "clients_are_refused_after_the_exhaustion_timeout";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let (addr, handle, serving) = start(server().exhaustion_timeout(Duration::ZERO));
        let bystander = connect(addr).await;
        talk(&bystander).await;
        let files = fill_table(3);
        // All of them wait before the server is polled.
        let connect_now = |_| std::net::TcpStream::connect(addr).unwrap();
        let waiting = [(); 3].map(connect_now).map(|client| TcpStream::from_std(client).unwrap());
        for client in &waiting {
            let end = client.read(&mut [0]).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        drop(waiting);
        drop(files);
        let client = connect(addr).await;
        talk(&client).await;
        leave(client).await;
        leave(bystander).await;
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.served, report.refused), (2, 3));
    });
}

fn a_connection_that_ends_frees_a_descriptor_for_the_next(backend: Backend) {
    let name = "a_connection_that_ends_frees_a_descriptor_for_the_next";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let (addr, _handle, _serving) = start(server().exhaustion_timeout(Duration::MAX));
        let one = connect(addr).await;
        talk(&one).await;
        let _files = fill_table(1);
        let two = connect(addr).await;
        two.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        let early = polyloop::timeout(Duration::from_millis(100), two.read(&mut buf)).await;
        assert!(early.is_err());
        // Its descriptor on the server's side is the one that becomes available.
        leave(one).await;
        two.read_exact(&mut buf).await.unwrap();
    });
}

fn the_server_survives_ten_thousand_clients_that_leave_at_once(backend: Backend) {
    let name = "the_server_survives_ten_thousand_clients_that_leave_at_once";
    if !is_alone(&format!("on_{backend}::{name}")) {
        return;
    }
    // Each step has its own time limit: on a busy machine all of them may take long.
    let runtime = Runtime::builder().backend(backend).build().unwrap();
    let work = async {
        let (addr, handle, serving) = start(server());
        let client = connect(addr).await;
        in_time(talk(&client)).await;
        let before = common::open_fds();
        for i in 0..10_000 {
            let client = in_time(TcpStream::connect(addr)).await.unwrap();
            // Most with a reset, some with a FIN and a socket in TIME_WAIT.
            if i % 10 != 0 {
                client.set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
        in_time(talk(&client)).await;
        let have_left = async {
            while handle.open_connections() > 1 {
                polyloop::yield_now().await;
            }
        };
        in_time(have_left).await;
        assert!(common::open_fds() <= before, "{before:?} before, {:?} after", common::open_fds());
        in_time(leave(client)).await;
        handle.shutdown();
        let report = in_time(serving).await.unwrap().unwrap();
        // Clients that left before they were accepted may not be counted.
        assert!(report.served >= 1 && report.aborted == 0, "{report:?}");
        assert!(report.served + report.failed <= 10_001, "{report:?}");
    };
    runtime.block_on(work).unwrap();
}

fn silent_clients_do_not_keep_others_from_being_served(backend: Backend) {
    let name = "silent_clients_do_not_keep_others_from_being_served";
    if !is_alone(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let server = server();
        let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
            let mut reader = polyloop::io::BufReader::with_limit(&stream, 1_000);
            loop {
                let line = polyloop::timeout(Duration::from_millis(500), reader.next_line());
                let Some(line) = line.await?? else { return Ok(()) };
                let answer = format!("{line}!\n");
                stream.write_all(answer.as_bytes()).await?;
            }
        }));
        let mut silent = Vec::new();
        for _ in 0..200 {
            let client = connect(addr).await;
            client.write_all(b"G").await.unwrap();
            silent.push(client);
        }
        let client = connect(addr).await;
        let mut lines = polyloop::io::BufReader::new(&client);
        for _ in 0..10 {
            client.write_all(b"hello\n").await.unwrap();
            assert_eq!(lines.next_line().await.unwrap(), Some("hello!"));
        }
        // The silent clients are disconnected, although an incomplete line of each is buffered.
        for client in &silent {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        handle.shutdown();
        drop(silent);
        let report = serving.await.unwrap().unwrap();
        assert!(report.failed >= 200, "{report:?}");
    });
}

fn each_reset_ends_one_connection(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server());
        let bystander = connect(addr).await;
        for n_bytes in [0, 1, 5, 1_000, 1 << 20] {
            let rude = connect(addr).await;
            let bytes = vec![7; n_bytes];
            // It does not read the echo, and leaves in the middle.
            let sending = polyloop::timeout(Duration::from_millis(20), rude.write_all(&bytes));
            let _ = sending.await;
            drop(rude);
            talk(&bystander).await;
        }
        while handle.open_connections() > 1 {
            polyloop::yield_now().await;
        }
        leave(bystander).await;
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.served + report.failed, 6, "{report:?}");
    });
}

fn a_burst_of_clients_does_not_delay_timers(backend: Backend) {
    run_on(backend, async {
        let (addr, handle, serving) = start(server());
        // All of them are in the queue before the server is polled.
        let clients: Vec<_> =
            (0..60).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let mut most_at_once = 0;
        let mut n_open = handle.open_connections();
        while n_open < 60 {
            polyloop::yield_now().await;
            most_at_once = most_at_once.max(handle.open_connections() - n_open);
            n_open = handle.open_connections();
        }
        assert!(most_at_once <= 32, "{most_at_once} were accepted in one poll");
        drop(clients);
        handle.shutdown();
        assert_eq!(serving.await.unwrap().unwrap().aborted, 0);
    });
}
