//! Aim: the example servers serve, and the example client verifies every byte, while system calls fail or
//! return short.
//!
//! `preload.c` is built with the C compiler that Rust links with, and preloaded into the examples.
//! Each cell of the tables below is a separate process.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod programs;
mod refused;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use libc::{
    ECONNABORTED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, EINTR, EINVAL, EMFILE, ENETDOWN,
    ENETUNREACH, ENFILE, ENOBUFS, ENOMEM, ENONET, ENOPROTOOPT, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM,
    EPIPE, EPROTO, ETIMEDOUT,
};

use programs::{Server, TIME_LIMIT, run_client};

const BACKENDS: [&str; 3] = ["select", "poll", "epoll"];

/// One exchange: enough bytes for several reads and writes, in a pattern that shows losses.
const MESSAGE_BYTES: usize = 4 * 1024;

/// Sends a message in four pieces, and reads it back up to the end of the stream.
fn exchange(server: &Server) -> std::io::Result<()> {
    let message: Vec<u8> = (0..MESSAGE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
    let mut stream = TcpStream::connect(server.addr())?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    let mut received = vec![0; MESSAGE_BYTES];
    for (sent, echoed) in message.chunks(1024).zip(received.chunks_mut(1024)) {
        stream.write_all(sent)?;
        stream.read_exact(echoed)?;
    }
    assert!(received == message, "the server changed what it echoed");
    stream.shutdown(Shutdown::Write)?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => panic!("the server sent more than it received"),
    }
}

/// Runs a server under `rules` on every backend: of five clients at most `n_lost` lose their connection, the
/// last is served, and SIGTERM still stops the server.
fn survives(rules: &str, n_lost: usize) {
    example_survives("echo_server", rules, n_lost);
}

fn example_survives(name: &str, rules: &str, n_lost: usize) {
    for backend in BACKENDS {
        let mut server = Server::start_example(name, backend, rules);
        let mut lost = 0;
        for client in 1..=5 {
            match exchange(&server) {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("{backend}, {rules}: client {client} was never answered")
                }
                Err(error) => {
                    lost += 1;
                    assert!(lost <= n_lost, "{backend}, {rules}: client {client} lost: {error}");
                    assert!(client < 5, "{backend}, {rules}: the server does not recover: {error}");
                }
            }
        }
        // The other one does not handle signals.
        if name == "echo_server" {
            server.stop();
        }
    }
}

#[test]
fn a_failed_accept_loses_no_client() {
    let errors = [
        ECONNABORTED,
        EPROTO,
        EPERM,
        ENETDOWN,
        ENETUNREACH,
        EHOSTDOWN,
        EHOSTUNREACH,
        ENOPROTOOPT,
        EOPNOTSUPP,
        ENONET,
        EMFILE,
        ENFILE,
        ENOBUFS,
        ENOMEM,
        EINTR,
    ];
    for error in errors {
        for first in [1, 2] {
            survives(&format!("accept4:errno={error}:{first}:2"), 0);
        }
        // The same server over a bare selector.
        example_survives("echo_raw", &format!("accept4:errno={error}:1:2"), 0);
    }
}

#[test]
fn interrupted_calls_have_no_effect() {
    let calls = ["accept4", "recv", "send", "epoll_wait", "epoll_pwait2", "ppoll", "pselect"];
    for call in calls {
        for nth in [2, 3] {
            survives(&format!("{call}:every={EINTR}:{nth}"), 0);
        }
    }
    let all = calls.map(|call| format!("{call}:every={EINTR}:2")).join(",");
    survives(&all, 0);
}

#[test]
fn short_reads_and_writes_lose_nothing() {
    for bytes in [1, 7, 1000] {
        survives(&format!("recv:short={bytes}"), 0);
        survives(&format!("send:short={bytes}"), 0);
        survives(&format!("recv:short={bytes},send:short=3"), 0);
    }
}

#[test]
fn an_error_of_one_connection_ends_only_that_connection() {
    for call in ["recv", "send"] {
        for error in [ECONNRESET, ETIMEDOUT, EPIPE, ENOBUFS, EHOSTUNREACH] {
            for first in [1, 3] {
                survives(&format!("{call}:errno={error}:{first}:1"), 1);
            }
        }
    }
}

#[test]
fn a_descriptor_that_cannot_be_registered_ends_one_connection() {
    for error in [ENOSPC, ENOMEM] {
        // The descriptors of the signals come first; a server that cannot register them does not start.
        for first in 4..=6 {
            survives(&format!("epoll_ctl:errno={error}:{first}:1"), 1);
        }
    }
}

#[test]
fn system_calls_missing_in_an_old_kernel_are_replaced() {
    for error in [ENOSYS, EPERM] {
        survives(&format!("epoll_pwait2:errno={error}:1:1000000"), 0);
    }
}

#[test]
fn a_refused_accept4_is_replaced() {
    for error in [ENOSYS, EPERM] {
        for first in [1, 2, 4] {
            survives(&format!("accept4:errno={error}:{first}:1000000"), 0);
        }
    }
}

/// A failure of one connection must not delay the next one.
#[test]
fn a_failed_accept_of_one_connection_delays_no_other() {
    for name in ["echo_server", "echo_raw"] {
        // Every third call: the one after a failure checks whether all are refused.
        let server = Server::start_example(name, "epoll", &format!("accept4:every={EPERM}:3"));
        let started = std::time::Instant::now();
        for _ in 0..100 {
            exchange(&server).expect("no connection is lost");
        }
        // With a back-off after each failure it would take at least 1.5 s.
        assert!(started.elapsed() < Duration::from_secs(1), "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn a_server_that_is_not_permitted_to_accept_ends_with_an_error() {
    for error in [ENOSYS, EPERM] {
        for backend in BACKENDS {
            let rules = format!("accept4:errno={error}:1:1000000,accept:errno={error}:1:1000000");
            let server = Server::start(backend, &rules);
            // It may need a client first.
            drop(TcpStream::connect(server.addr()));
            let (status, said) = server.ended();
            assert_eq!(status.code(), Some(1), "{backend}, {rules}: {said}");
            assert!(said.contains("accept is refused"), "{backend}, {rules}: {said}");
        }
    }
}

#[test]
fn a_clock_that_jumps_has_no_effect() {
    let hour_ns: i64 = 3_600_000_000_000;
    for step in [hour_ns, -hour_ns, -1_000_000] {
        for first in [5, 20] {
            survives(&format!("clock_gettime:step={step}:{first}"), 0);
        }
    }
}

#[test]
fn a_program_that_cannot_start_ends_with_the_reason() {
    for (backend, rules, named) in [
        ("epoll", format!("epoll_create1:errno={EMFILE}:1:1"), "Too many open files"),
        ("poll", format!("socket:errno={ENFILE}:1:100"), "Too many open files in system"),
        ("epoll", format!("epoll_create1:errno={ENOSYS}:1:1"), "not implemented"),
        ("epoll", format!("epoll_create1:errno={EINVAL}:1:1"), "Invalid argument"),
        ("poll", format!("socket:errno={ENOSYS}:1:100"), "not implemented"),
    ] {
        for name in ["echo_client", "echo_raw"] {
            // The client does not take the options of a server.
            let output = Server::refused_example(name, backend, &rules);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{name}, {rules}: it reports success");
            assert!(!said.contains("Usage"), "{name}, {rules}: {said}");
        }
        let output = Server::refused(backend, &rules);
        assert!(!output.status.success(), "{rules}: the server reports success");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(named), "{rules}: {said}");
        assert!(!said.contains("panicked") && !said.contains("Usage"), "{rules}: {said}");
    }
}

#[test]
fn a_client_verifies_every_byte_despite_faults() {
    let faults = [
        "recv:short=3,send:short=5".to_owned(),
        format!("recv:every={EINTR}:2,send:every={EINTR}:3,connect:errno={EINTR}:1:0"),
        format!("epoll_wait:every={EINTR}:2,ppoll:every={EINTR}:2,pselect:every={EINTR}:2"),
        format!("epoll_pwait2:errno={ENOSYS}:1:1000000"),
    ];
    for backend in BACKENDS {
        let mut server = Server::start(backend, "recv:short=11");
        for rules in &faults {
            let output = run_client(&server, backend, rules);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{backend}, {rules}: {said}");
        }
        let refused = run_client(&server, backend, &format!("connect:errno={ENETUNREACH}:1:1000"));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("cannot connect"), "{said}");
        server.stop();
    }
}

/// Tests the harness: a rule that should break the exchange breaks it.
#[test]
fn the_faults_are_injected() {
    let server = Server::start("epoll", &format!("recv:errno={ECONNRESET}:1:1000000"));
    assert!(exchange(&server).is_err(), "no read can succeed");
    let started = std::time::Instant::now();
    drop(server);
    assert!(started.elapsed() < Duration::from_secs(30));
}
