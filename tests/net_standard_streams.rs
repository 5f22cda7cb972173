//! Which descriptors with the numbers 0 to 2, or of the same open file as a standard stream, can be awaited.
//! Each case runs in a separate process.
#![cfg(any(target_os = "linux", target_os = "android"))]

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::unistd::close;
use polyloop::Backend;
use polyloop::net::{AsyncFd, Direction, PipeReader, TcpListener, TcpStream, UnixStream};

use common::{process, role, run_on};

backends!(a_socket_is_accepted_at_the_numbers_of_the_standard_streams);

/// Runs the test again with `stdin`. Returns `true` in that process.
fn has_stdin(test: &str, stdin: impl Into<Stdio>) -> bool {
    if role().is_some() {
        return true;
    }
    let status = process(test, "child").stdin(stdin).status().unwrap();
    assert!(status.success(), "in a separate process: {status}");
    false
}

/// Duplicates the descriptor of standard input.
fn stdin() -> OwnedFd {
    io::stdin().as_fd().try_clone_to_owned().unwrap()
}

fn stdin_blocks() -> bool {
    let status = fcntl(io::stdin(), FcntlArg::F_GETFL).unwrap();
    !OFlag::from_bits_truncate(status).contains(OFlag::O_NONBLOCK)
}

#[track_caller]
fn assert_refused<T>(result: io::Result<T>) {
    let Err(error) = result else { panic!("accepted") };
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("standard stream"), "{error}");
    assert!(stdin_blocks(), "its mode has changed");
}

fn a_socket_is_accepted_at_the_numbers_of_the_standard_streams(backend: Backend) {
    let name = "a_socket_is_accepted_at_the_numbers_of_the_standard_streams";
    if !has_stdin(&format!("on_{backend}::{name}"), Stdio::null()) {
        return;
    }
    run_on(backend, async {
        let mut buf = [0; 8];
        // Not 1: the test harness writes there at the end.
        for number in [2, 0] {
            let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            close(number).unwrap();
            // The lowest free number.
            let listener = TcpListener::bind(addr).unwrap();
            assert_eq!(listener.as_fd().as_raw_fd(), number);
            let (connected, accepted) =
                polyloop::join!(TcpStream::connect(addr), listener.accept());
            let (connected, (accepted, _)) = (connected.unwrap(), accepted.unwrap());
            connected.write_all(b"hello").await.unwrap();
            assert_eq!(accepted.read(&mut buf).await.unwrap(), 5);

            drop(listener);
            let (one, mut other) = StdStream::pair().unwrap();
            assert_eq!(one.as_raw_fd(), number);
            let one = UnixStream::from_std(one).unwrap();
            let (n_bytes, ()) = polyloop::join!(one.read(&mut buf), async {
                polyloop::yield_now().await;
                other.write_all(b"hello").unwrap();
            });
            assert_eq!(n_bytes.unwrap(), 5);
        }
    });
}

#[test]
fn a_connection_from_inetd_is_served() {
    let (one, mut other) = StdStream::pair().unwrap();
    other.write_all(b"hello").unwrap();
    if has_stdin("a_connection_from_inetd_is_served", OwnedFd::from(one)) {
        let stream = UnixStream::from_std(stdin().into()).unwrap();
        let served = polyloop::run(async {
            let mut buf = [0; 5];
            stream.read_exact(&mut buf).await?;
            stream.write_all(&buf).await
        });
        served.unwrap().unwrap();
        return;
    }
    let mut echoed = [0; 5];
    other.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hello");
}

#[test]
fn a_pipe_is_refused_and_keeps_its_mode_under_any_number() {
    let (reader, _writer) = io::pipe().unwrap();
    if has_stdin("a_pipe_is_refused_and_keeps_its_mode_under_any_number", reader) {
        assert_refused(AsyncFd::new(io::stdin()));
        assert_refused(AsyncFd::new(stdin()));
        assert_refused(PipeReader::from_std(stdin()));
        // A descriptor whose mode does not change is accepted.
        fcntl(io::stdin(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        AsyncFd::new(io::stdin()).unwrap();
        PipeReader::from_std(stdin()).unwrap();
    }
}

#[test]
fn a_terminal_is_refused_and_a_new_opening_of_it_is_not() {
    let pty = openpty(None, None).unwrap();
    if has_stdin("a_terminal_is_refused_and_a_new_opening_of_it_is_not", pty.slave) {
        assert_refused(AsyncFd::new(io::stdin()));
        assert_refused(AsyncFd::new(stdin()));
        let anew = std::fs::File::open("/dev/stdin").unwrap();
        let anew = AsyncFd::new(anew).unwrap();
        assert!(stdin_blocks());
        let nothing = anew.try_io(Direction::Read, |mut file| file.read(&mut [0; 8]));
        assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_pipe_of_the_program_is_not_mistaken_for_a_standard_stream() {
    let (reader, _writer) = io::pipe().unwrap();
    if has_stdin("a_pipe_of_the_program_is_not_mistaken_for_a_standard_stream", reader) {
        polyloop::net::pipe().unwrap();
        assert!(stdin_blocks());
    }
}
