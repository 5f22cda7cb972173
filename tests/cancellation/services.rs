//! Name lookups, servers and signals.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use polyloop::blocking::BlockingPool;
use polyloop::io::copy;
use polyloop::net::{Server, Session, TcpStream, lookup_host};
use polyloop::signal::{ctrl_c, terminate};
use polyloop::{Backend, yield_now};

use crate::common::is_alone;
use crate::dropper::{Dropper, at_every_poll, cases};

cases! {
    a_dropped_lookup_can_be_repeated: "lookup_host";
    a_dropped_abandonable_job_drops_what_it_captured: "BlockingPool::try_spawn_abandonable",
        "AbandonOnDrop";
    a_dropped_server_aborts_all_connections_and_loses_none: "Server::serve";
    a_dropped_wait_for_a_shutdown_completes_when_repeated: "Session::shutdown_requested";
}

/// As [`cases!`] would record them.
pub(crate) const SIGNALS_SHOWN: &[&str] = &["ctrl_c", "terminate", "Signal"];

crate::backends!(a_dropped_signal_listener_takes_the_signal_from_no_other);

async fn a_dropped_lookup_can_be_repeated(dropper: &Dropper) {
    let addrs = dropper.again(async || lookup_host("localhost:80").await, || {}).await.unwrap();
    assert!(!addrs.is_empty());
    assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
}

async fn a_dropped_abandonable_job_drops_what_it_captured(dropper: &Dropper) {
    let (pool, captured) = (BlockingPool::new(1), Arc::new(()));
    let run = async || {
        let captured = Arc::clone(&captured);
        pool.try_spawn_abandonable(move || drop(captured)).unwrap().await
    };
    dropper.again(run, || {}).await.unwrap();
    while Arc::strong_count(&captured) > 1 {
        yield_now().await;
    }
}

async fn a_dropped_server_aborts_all_connections_and_loses_none(dropper: &Dropper) {
    let server = Server::bind("127.0.0.1:0").unwrap().shutdown_timeout(Duration::ZERO);
    let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
    let serving = server.serve(async |stream: TcpStream, _| copy(&stream, &stream).await.map(drop));
    let mut clients = Vec::new();
    let mut n_steps = 0;
    let peer_step = || {
        n_steps += 1;
        match n_steps {
            // Refused once the server has been dropped.
            1..=2 => clients.extend(net::TcpStream::connect(addr).ok()),
            3..=4 => {
                let client = clients.get_mut(n_steps - 3);
                client.map_or(Ok(()), |client| client.write_all(b"hello")).unwrap_or_default();
            }
            _ => handle.shutdown(),
        }
    };
    let report = dropper.once(serving, peer_step).await.map(Result::unwrap);
    while handle.open_connections() > 0 {
        yield_now().await;
    }
    // Each connection is closed, whether or not it was accepted.
    let n_clients = clients.len() as u64;
    for mut client in clients {
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut received = Vec::new();
        let end = client.read_to_end(&mut received);
        let is_end = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(end.as_ref().map_or_else(is_end, |_| true), "{end:?}");
        assert!(b"hello".starts_with(&received));
    }
    if let Some(report) = report {
        assert!(report.aborted + report.served + report.failed <= n_clients, "{report:?}");
    }
}

async fn a_dropped_wait_for_a_shutdown_completes_when_repeated(dropper: &Dropper) {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let (addr, handle) = (server.local_addrs()[0], server.shutdown_handle());
    let sessions = Rc::new(RefCell::new(None));
    let given = Rc::clone(&sessions);
    let serving =
        polyloop::spawn(server.serve(async move |stream: TcpStream, session: Session| {
            *given.borrow_mut() = Some(session.clone());
            session.shutdown_requested().await;
            drop(stream);
            Ok(())
        }));
    let _client = net::TcpStream::connect(addr).unwrap();
    while sessions.borrow().is_none() {
        yield_now().await;
    }
    let session = sessions.take().unwrap();
    dropper.again(async || session.shutdown_requested().await, || handle.shutdown()).await;
    assert!(session.is_shutdown_requested());
    assert_eq!(serving.await.unwrap().unwrap().served, 1);
}

fn a_dropped_signal_listener_takes_the_signal_from_no_other(backend: Backend) {
    let name = "a_dropped_signal_listener_takes_the_signal_from_no_other";
    if !is_alone(&format!("services::on_{backend}::{name}")) {
        return;
    }
    at_every_poll(backend, async |dropper| {
        let (interrupted, terminated) = (ctrl_c(), terminate());
        // Each call is a separate listener, so each attempt needs a separate signal. It is raised on this
        // thread, where it is delivered before the call returns: on another thread it might be delivered
        // after the last listener was dropped, and end the process.
        let interrupt = || raise(Signal::SIGINT).unwrap();
        dropper.again(async || ctrl_c().await, interrupt).await.unwrap();
        interrupted.await.unwrap();
        let terminate_it = || raise(Signal::SIGTERM).unwrap();
        dropper.again(async || terminate().await, terminate_it).await.unwrap();
        terminated.await.unwrap();
    });
}
