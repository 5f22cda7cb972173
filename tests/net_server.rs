//! `Server`: what it lives through, on every backend.

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
    Server, ServerReport, Stopper, TcpSocket, TcpStream, Trouble, UnixListener, UnixStream,
};
use polyloop::{Backend, JoinHandle, Runtime};

use common::{is_alone, process, role, run_on};

backends!(
    everybody_is_served_and_counted,
    above_the_limit_clients_wait_for_their_turn,
    errors_and_panics_of_handlers_are_told_and_hurt_nobody_else,
    stopping_lets_open_connections_end,
    connections_that_do_not_end_are_cut_off,
    dropping_the_server_cuts_everybody_off,
    several_listeners_take_turns,
    two_servers_share_one_port,
    unix_sockets_are_served_as_well,
    running_out_of_descriptors_is_lived_through_without_spinning,
    those_who_waited_too_long_for_a_descriptor_are_refused,
    a_connection_that_ends_makes_room_for_the_next,
    ten_thousand_clients_that_leave_at_once_are_lived_through,
    a_crowd_that_says_nothing_keeps_nobody_from_being_served,
    resets_in_every_place_end_one_connection_each,
    a_burst_of_clients_does_not_keep_timers_waiting,
);

type Serving = JoinHandle<io::Result<ServerReport>>;

/// Starts a server that echoes.
fn start(server: Server) -> (SocketAddr, Stopper, Serving) {
    let (addr, stopper) = (server.local_addrs()[0], server.stopper());
    let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
        copy(&stream, &stream).await?;
        Ok(())
    }));
    (addr, stopper, serving)
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
    polyloop::timeout(common::PATIENCE, step).await.expect("the test makes no progress")
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).await.unwrap();
    // No TIME_WAIT: thousands of them would use up the ports of a busy machine.
    client.set_linger(Some(Duration::ZERO)).unwrap();
    client
}

/// Ends the connection in the orderly way, and waits for the server to have noticed.
async fn leave(client: TcpStream) {
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

fn everybody_is_served_and_counted(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server());
        for _ in 0..50 {
            let client = connect(addr).await;
            talk(&client).await;
            leave(client).await;
        }
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_failed, report.n_cut_off), (50, 0, 0));
    });
}

fn above_the_limit_clients_wait_for_their_turn(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server().max_connections(2));
        let (one, two) = (connect(addr).await, connect(addr).await);
        talk(&one).await;
        talk(&two).await;
        // They are connected, as far as the system goes, and nobody talks to them.
        let third = connect(addr).await;
        third.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        let early = polyloop::timeout(Duration::from_millis(50), third.read(&mut buf)).await;
        assert!(early.is_err());
        assert_eq!(stopper.n_open(), 2);
        leave(one).await;
        third.read_exact(&mut buf).await.unwrap();
        assert_eq!(stopper.n_open(), 2);

        let crowd: Vec<_> = (0..20)
            .map(|_| {
                let stopper = stopper.clone();
                polyloop::spawn(async move {
                    let client = connect(addr).await;
                    talk(&client).await;
                    assert!(stopper.n_open() <= 2);
                    leave(client).await;
                })
            })
            .collect();
        leave(two).await;
        leave(third).await;
        for client in crowd {
            client.await.unwrap();
        }
        stopper.stop();
        assert_eq!(serving.await.unwrap().unwrap().n_served, 23);
    });
}

fn errors_and_panics_of_handlers_are_told_and_hurt_nobody_else(backend: Backend) {
    run_on(backend, async {
        let troubles = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&troubles);
        let server = server().on_trouble(move |trouble| {
            match trouble {
                Trouble::Handler(_, error) => heard.borrow_mut().push(error.to_string()),
                Trouble::Panic(peer) => heard.borrow_mut().push(format!("panic {}", peer.port())),
                // With faults injected into accepting, that is told as well.
                _ => {}
            }
        });
        let (addr, stopper) = (server.local_addrs()[0], server.stopper());
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
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_failed), (1, 3));
        assert_eq!(*troubles.borrow(), expected);
    });
}

fn stopping_lets_open_connections_end(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server());
        let client = connect(addr).await;
        talk(&client).await;
        stopper.stop();
        // Until the server has heard of it; its port may be taken by now.
        let listen = || TcpSocket::v4()?.reuse_address(true)?.bind(addr)?.listen(1);
        while listen().is_err() {
            polyloop::yield_now().await;
        }
        // Nobody new, but this one goes on.
        talk(&client).await;
        assert_eq!(stopper.n_open(), 1);
        leave(client).await;
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.n_cut_off, 0);
    });
}

fn connections_that_do_not_end_are_cut_off(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server().grace(Duration::from_millis(20)));
        let clients = [connect(addr).await, connect(addr).await];
        for client in &clients {
            talk(client).await;
        }
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_cut_off), (0, 2));
        for client in &clients {
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        assert_eq!(stopper.n_open(), 0);
    });
}

fn dropping_the_server_cuts_everybody_off(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server());
        let client = connect(addr).await;
        talk(&client).await;
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(stopper.n_open(), 0);
    });
}

fn several_listeners_take_turns(backend: Backend) {
    run_on(backend, async {
        let other = polyloop::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = server().and_on(other);
        let addrs = server.local_addrs();
        let (_, stopper, serving) = start(server);
        for i in 0..10 {
            let client = connect(addrs[i % 2]).await;
            talk(&client).await;
            leave(client).await;
        }
        stopper.stop();
        assert_eq!(serving.await.unwrap().unwrap().n_served, 10);
    });
}

fn two_servers_share_one_port(backend: Backend) {
    run_on(backend, async {
        let listen =
            |addr: SocketAddr| TcpSocket::for_addr(addr)?.reuse_port(true)?.bind(addr)?.listen(128);
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = listen(first.local_addr().unwrap()).unwrap();
        // Whoever did not ask for it does not get it.
        let third = Server::bind(first.local_addr().unwrap());
        assert_eq!(third.unwrap_err().kind(), ErrorKind::AddrInUse);
        let (addr, stop_first, serving_first) = start(Server::on(first));
        let (_, stop_second, serving_second) = start(Server::on(second));
        for _ in 0..40 {
            let client = connect(addr).await;
            talk(&client).await;
            leave(client).await;
        }
        stop_first.stop();
        stop_second.stop();
        let first = serving_first.await.unwrap().unwrap().n_served;
        let second = serving_second.await.unwrap().unwrap().n_served;
        assert_eq!(first + second, 40);
        if cfg!(target_os = "linux") {
            assert!(first > 0 && second > 0, "{first} and {second}");
        }
    });
}

fn unix_sockets_are_served_as_well(backend: Backend) {
    run_on(backend, async {
        let name =
            |i| std::env::temp_dir().join(format!("polyloop-{}-{backend}-{i}", std::process::id()));
        let paths = [name(1), name(2)];
        let listeners = paths.each_ref().map(|path| UnixListener::bind(path).unwrap());
        let n_troubles = Rc::new(Cell::new(0));
        let count = Rc::clone(&n_troubles);
        let [one, two] = listeners;
        let server = Server::on(one).and_on(two).on_trouble(move |trouble| {
            assert!(
                matches!(&trouble, Trouble::Handler(peer, _) if peer.is_unnamed()),
                "{trouble}"
            );
            count.set(count.get() + 1);
        });
        let addrs = server.local_addrs();
        assert_eq!(
            addrs.iter().map(|addr| addr.as_pathname()).collect::<Vec<_>>(),
            [Some(&*paths[0]), Some(&*paths[1])]
        );
        let stopper = server.stopper();
        let serving = polyloop::spawn(server.serve(async |stream: UnixStream, _| {
            match copy(&stream, &stream).await? {
                0 => Err(io::Error::other("nothing was said")),
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
        while stopper.n_open() > 0 {
            polyloop::yield_now().await;
        }
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_failed, n_troubles.get()), (2, 2, 2));
        assert!(paths.iter().all(|path| !path.exists()), "the files go with their listeners");
    });
}

/// Runs a test in a process of its own that may have few descriptors. False in the runner's.
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
        "in its own process: {printed}\n{}",
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

fn running_out_of_descriptors_is_lived_through_without_spinning(backend: Backend) {
    let name = "running_out_of_descriptors_is_lived_through_without_spinning";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let n_told = Rc::new(Cell::new(0));
        let count = Rc::clone(&n_told);
        let server = server().on_trouble(move |trouble| {
            assert!(matches!(trouble, Trouble::Exhausted(_)), "{trouble}");
            count.set(count.get() + 1);
        });
        let (addr, stopper, serving) = start(server.patience(Duration::MAX));
        let bystander = connect(addr).await;
        talk(&bystander).await;
        let files = fill_table(3);
        let clients = [connect(addr).await, connect(addr).await, connect(addr).await];
        while n_told.get() == 0 {
            polyloop::yield_now().await;
        }
        let before = polyloop::runtime::metrics();
        polyloop::sleep(Duration::from_millis(300)).await;
        let after = polyloop::runtime::metrics();
        assert!(after.n_polls - before.n_polls < 50, "{before:?}, {after:?}");
        assert!(after.n_waits - before.n_waits < 50, "{before:?}, {after:?}");
        // Whoever is served already does not notice.
        talk(&bystander).await;

        drop(files);
        for client in &clients {
            talk(client).await;
        }
        assert_eq!(n_told.get(), 1, "told once for the whole series");
        for client in clients.into_iter().chain([bystander]) {
            leave(client).await;
        }
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_refused), (4, 0));
    });
}

fn those_who_waited_too_long_for_a_descriptor_are_refused(backend: Backend) {
    let name = "those_who_waited_too_long_for_a_descriptor_are_refused";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let (addr, stopper, serving) = start(server().patience(Duration::ZERO));
        let bystander = connect(addr).await;
        talk(&bystander).await;
        let files = fill_table(3);
        // All of them wait before the server looks.
        let connect_now = |_| std::net::TcpStream::connect(addr).unwrap();
        let crowd = [(); 3].map(connect_now).map(|client| TcpStream::from_std(client).unwrap());
        for client in &crowd {
            let end = client.read(&mut [0]).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        drop(crowd);
        drop(files);
        let client = connect(addr).await;
        talk(&client).await;
        leave(client).await;
        leave(bystander).await;
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!((report.n_served, report.n_refused), (2, 3));
    });
}

fn a_connection_that_ends_makes_room_for_the_next(backend: Backend) {
    let name = "a_connection_that_ends_makes_room_for_the_next";
    if !has_few_descriptors(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let (addr, _stopper, _serving) = start(server().patience(Duration::MAX));
        let one = connect(addr).await;
        talk(&one).await;
        let _files = fill_table(1);
        let two = connect(addr).await;
        two.write_all(b"hello").await.unwrap();
        let mut buf = [0; 5];
        let early = polyloop::timeout(Duration::from_millis(100), two.read(&mut buf)).await;
        assert!(early.is_err());
        // Its descriptor on the server's side is the one.
        leave(one).await;
        two.read_exact(&mut buf).await.unwrap();
    });
}

fn ten_thousand_clients_that_leave_at_once_are_lived_through(backend: Backend) {
    let name = "ten_thousand_clients_that_leave_at_once_are_lived_through";
    if !is_alone(&format!("on_{backend}::{name}")) {
        return;
    }
    // Each step has a limit of its own, since thousands may take long where much else is going on.
    let runtime = Runtime::builder().backend(backend).build().unwrap();
    let work = async {
        let (addr, stopper, serving) = start(server());
        let client = connect(addr).await;
        in_time(talk(&client)).await;
        let before = common::open_fds();
        for i in 0..10_000 {
            let client = in_time(TcpStream::connect(addr)).await.unwrap();
            // Some with a reset, some with an end and what it leaves behind.
            if i % 10 != 0 {
                client.set_linger(Some(Duration::ZERO)).unwrap();
            }
        }
        in_time(talk(&client)).await;
        let have_left = async {
            while stopper.n_open() > 1 {
                polyloop::yield_now().await;
            }
        };
        in_time(have_left).await;
        assert!(common::open_fds() <= before, "{before:?} before, {:?} after", common::open_fds());
        in_time(leave(client)).await;
        stopper.stop();
        let report = in_time(serving).await.unwrap().unwrap();
        // Those who were gone before their turn may not be among them.
        assert!(report.n_served >= 1 && report.n_cut_off == 0, "{report:?}");
        assert!(report.n_served + report.n_failed <= 10_001, "{report:?}");
    };
    runtime.block_on(work).unwrap();
}

fn a_crowd_that_says_nothing_keeps_nobody_from_being_served(backend: Backend) {
    let name = "a_crowd_that_says_nothing_keeps_nobody_from_being_served";
    if !is_alone(&format!("on_{backend}::{name}")) {
        return;
    }
    run_on(backend, async {
        let server = server();
        let (addr, stopper) = (server.local_addrs()[0], server.stopper());
        let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _| {
            let mut reader = polyloop::io::BufReader::with_limit(&stream, 1_000);
            loop {
                let line = polyloop::timeout(Duration::from_millis(500), reader.next_line());
                let Some(line) = line.await?? else { return Ok(()) };
                let answer = format!("{line}!\n");
                stream.write_all(answer.as_bytes()).await?;
            }
        }));
        let mut crowd = Vec::new();
        for _ in 0..200 {
            let client = connect(addr).await;
            client.write_all(b"G").await.unwrap();
            crowd.push(client);
        }
        let client = connect(addr).await;
        let mut lines = polyloop::io::BufReader::new(&client);
        for _ in 0..10 {
            client.write_all(b"hello\n").await.unwrap();
            assert_eq!(lines.next_line().await.unwrap(), Some("hello!"));
        }
        // And those who say nothing are shown out, while the last byte of each still waits.
        for loris in &crowd {
            assert_eq!(loris.read(&mut [0]).await.unwrap(), 0);
        }
        stopper.stop();
        drop(crowd);
        let report = serving.await.unwrap().unwrap();
        assert!(report.n_failed >= 200, "{report:?}");
    });
}

fn resets_in_every_place_end_one_connection_each(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server());
        let bystander = connect(addr).await;
        for n_bytes in [0, 1, 5, 1_000, 1 << 20] {
            let rude = connect(addr).await;
            let bytes = vec![7; n_bytes];
            // It does not read what comes back, and goes in the middle.
            let sending = polyloop::timeout(Duration::from_millis(20), rude.write_all(&bytes));
            let _ = sending.await;
            drop(rude);
            talk(&bystander).await;
        }
        while stopper.n_open() > 1 {
            polyloop::yield_now().await;
        }
        leave(bystander).await;
        stopper.stop();
        let report = serving.await.unwrap().unwrap();
        assert_eq!(report.n_served + report.n_failed, 6, "{report:?}");
    });
}

fn a_burst_of_clients_does_not_keep_timers_waiting(backend: Backend) {
    run_on(backend, async {
        let (addr, stopper, serving) = start(server());
        // All of them are in the queue before the server looks.
        let clients: Vec<_> =
            (0..60).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let mut most_at_once = 0;
        let mut n_open = stopper.n_open();
        while n_open < 60 {
            polyloop::yield_now().await;
            most_at_once = most_at_once.max(stopper.n_open() - n_open);
            n_open = stopper.n_open();
        }
        assert!(most_at_once <= 32, "{most_at_once} were accepted in one go");
        drop(clients);
        stopper.stop();
        assert_eq!(serving.await.unwrap().unwrap().n_cut_off, 0);
    });
}
