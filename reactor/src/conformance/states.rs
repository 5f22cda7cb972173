//! The readiness in each state of a descriptor: a table, with one test for each row.
//!
//! | state | interest | poll and epoll on Linux |
//! |---|---|---|
//! | pipe, read end, writer gone, empty | read | hang-up |
//! | pipe, read end, writer gone, data left | read | readable, hang-up |
//! | pipe, write end, reader gone | write | writable, error |
//! | TCP socket, not connected | both | writable, hang-up |
//! | TCP, connection refused | both | readable, writable, error, hang-up, read-closed |
//! | TCP, peer sends no more, or has closed | both | readable, writable, read-closed |
//! | TCP, peer has reset | both | readable, writable, error, hang-up, read-closed |
//! | TCP, read side shut down by the program | both | readable, writable, read-closed |
//! | TCP, both sides shut down by the program | both | readable, writable, hang-up, read-closed |
//! | Unix stream, peer has closed | both | readable, writable, hang-up, read-closed |
//! | UDP, port unreachable | read | error |
//! | UDP, an error that is kept until it is read (`IP_RECVERR`) | both | writable, error |
//! | listener, a client waits | read | readable |
//! | listener, the client has reset | read | readable |
//! | regular file, directory, the null device (poll and select only) | both | readable, writable |
//!
//! The others differ, and this is all they may differ in:
//! - select(2) has three flags: it reports the same, with hang-up as readable, and error as
//!   readable and writable.
//! - kqueue reports the end of a stream as read-closed with readable, also where poll says hang-up;
//!   it does not report sockets that were never connected; an error arrives with the filter that
//!   was requested.
//! - On other systems than Linux poll has no read-closed, and reports fewer hang-ups.
//!
//! So where the table does not apply, what is checked is that those who should try again would be
//! woken: that is the promise on every system.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::B;
use super::{A, BOTH, LIMIT, Open, READ, Scene, WRITE, is_library, pair, readiness_of, tcp_pair};
use crate::{Backend, Interest, Mode, Readiness};

const R: Readiness = Readiness::READABLE;
const W: Readiness = Readiness::WRITABLE;
const ERROR: Readiness = Readiness::ERROR;
const HANG_UP: Readiness = Readiness::HANG_UP;
const CLOSED: Readiness = Readiness::READ_CLOSED;

/// Checks a row of the table.
#[track_caller]
fn check(open: Open<'_>, fd: impl AsFd, interest: Interest, row: Readiness) {
    let mut scene = Scene::new(open);
    scene.register(&fd, A, interest, Mode::Level);
    let backend = scene.selector.backend();
    if !cfg!(target_os = "linux")
        || !matches!(backend, Backend::Select | Backend::Poll | Backend::Epoll)
    {
        return expect_wakes(&mut scene, interest, row);
    }
    let row = if backend == Backend::Select { as_select(interest, row) } else { row };
    scene.expect(A, row);
}

/// Returns what select makes of a row.
fn as_select(interest: Interest, row: Readiness) -> Readiness {
    let mut reported = Readiness::NONE;
    if interest.is_readable() && row.intersects(R | ERROR | HANG_UP) {
        reported |= R;
    }
    if interest.is_writable() && row.intersects(W | ERROR) {
        reported |= W;
    }
    reported
}

/// Waits until every waiter that should try again is reported.
#[track_caller]
fn expect_wakes(scene: &mut Scene, interest: Interest, row: Readiness) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let reported = readiness_of(&scene.poll(), A).unwrap_or(Readiness::NONE);
        let reader = reported.wakes_reader() || !interest.is_readable() || !row.wakes_reader();
        let writer = reported.wakes_writer() || !interest.is_writable() || !row.wakes_writer();
        if reader && writer {
            return;
        }
        assert!(Instant::now() < deadline, "reported {reported:?}, not {row:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(super) fn an_empty_pipe_without_writer_hangs_up(open: Open<'_>) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(writer);
    check(open, reader, READ, HANG_UP);
}

pub(super) fn a_pipe_without_writer_reports_its_data_first(open: Open<'_>) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(b"x").unwrap();
    drop(writer);
    check(open, reader, READ, R | HANG_UP);
}

pub(super) fn a_pipe_without_reader_is_an_error_for_its_writer(open: Open<'_>) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    check(open, writer, WRITE, W | ERROR);
}

pub(super) fn a_socket_that_was_never_connected_hangs_up(open: Open<'_>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Not reported by every kqueue.
    if open().unwrap().backend() != Backend::Kqueue {
        check(open, socket, BOTH, W | HANG_UP);
    }
}

pub(super) fn a_refused_connection_is_an_error_in_both_directions(open: Open<'_>) {
    let unused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // In progress or refused at once: either way the state below is what comes of it.
    let _ = socket.connect(&unused.into());
    check(open, socket, BOTH, R | W | ERROR | HANG_UP | CLOSED);
}

pub(super) fn a_peer_that_sends_no_more_closes_the_read_side(open: Open<'_>) {
    let (one, other) = tcp_pair();
    other.shutdown(Shutdown::Write).unwrap();
    check(open, one, BOTH, R | W | CLOSED);
}

pub(super) fn a_closed_peer_is_reported_like_one_that_sends_no_more(open: Open<'_>) {
    let (one, other) = tcp_pair();
    drop(other);
    check(open, one, BOTH, R | W | CLOSED);
}

pub(super) fn the_end_of_a_stream_does_not_hide_its_data(open: Open<'_>) {
    let (mut one, mut other) = tcp_pair();
    other.write_all(b"last words").unwrap();
    drop(other);
    check(open, &one, READ, R | CLOSED);
    let mut words = String::new();
    one.read_to_string(&mut words).unwrap();
    assert_eq!(words, "last words");
    check(open, &one, READ, R | CLOSED);
}

pub(super) fn a_writer_alone_gets_no_report_of_the_read_side(open: Open<'_>) {
    let (one, other) = tcp_pair();
    other.shutdown(Shutdown::Write).unwrap();
    check(open, one, WRITE, W);
}

pub(super) fn a_reset_is_an_error_in_both_directions(open: Open<'_>) {
    let (one, other) = tcp_pair();
    reset(other);
    check(open, one, BOTH, R | W | ERROR | HANG_UP | CLOSED);
}

pub(super) fn data_does_not_hide_an_error(open: Open<'_>) {
    let (one, mut other) = tcp_pair();
    other.write_all(b"x").unwrap();
    reset(other);
    check(open, one, BOTH, R | W | ERROR | HANG_UP | CLOSED);
}

pub(super) fn our_own_shutdown_of_reading_is_reported(open: Open<'_>) {
    let (one, _other) = tcp_pair();
    one.shutdown(Shutdown::Read).unwrap();
    check(open, one, BOTH, R | W | CLOSED);
}

pub(super) fn our_own_shutdown_of_writing_is_no_hang_up(open: Open<'_>) {
    let (one, _other) = tcp_pair();
    one.shutdown(Shutdown::Write).unwrap();
    check(open, one, BOTH, W);
}

pub(super) fn our_own_shutdown_of_both_is_a_hang_up(open: Open<'_>) {
    let (one, _other) = tcp_pair();
    one.shutdown(Shutdown::Both).unwrap();
    check(open, one, BOTH, R | W | HANG_UP | CLOSED);
}

pub(super) fn a_closed_unix_stream_hangs_up(open: Open<'_>) {
    let (one, other) = pair();
    drop(other);
    check(open, one, BOTH, R | W | HANG_UP | CLOSED);
}

pub(super) fn an_unreachable_port_wakes_a_reader_without_data(open: Open<'_>) {
    let unused = {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(unused).unwrap();
    socket.send(b"anybody?").unwrap();
    check(open, &socket, READ, ERROR);
    if is_library(open) {
        return;
    }
    socket.set_nonblocking(true).unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

pub(super) fn a_waiting_client_makes_the_listener_readable(open: Open<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check(open, listener, READ, R);
}

pub(super) fn a_client_that_reset_does_not_silence_the_listener(open: Open<'_>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    reset(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let _second = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    check(open, listener, READ, R);
}

pub(super) fn files_directories_and_the_null_device_agree(open: Open<'_>) {
    let backend = open().unwrap().backend();
    for path in ["/bin/sh", "/", "/dev/null"] {
        let file = File::open(path).unwrap();
        let mut scene = Scene::new(open);
        if scene.selector.refuses_files() {
            let result = scene.selector.register(file.as_fd(), A, READ, Mode::Level);
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        } else if backend != Backend::Kqueue {
            // kqueue differs from system to system and from kind to kind.
            check(open, file, BOTH, R | W);
        }
    }
}

pub(super) fn a_terminal_can_be_watched(open: Open<'_>) {
    // The controlling end of a new terminal, where the system gives one out.
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/ptmx") else { return };
    if open().unwrap().backend() != Backend::Kqueue {
        check(open, terminal, WRITE, W);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn a_kept_error_is_reported_until_it_is_read(open: Open<'_>) {
    use crate::sys::testing::{keep_errors, take_kept_error};

    // Only Linux keeps errors: the model of another system's kqueue cannot report one.
    if open().unwrap().backend() == Backend::Kqueue {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    keep_errors(socket.as_fd()).unwrap();
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.send_to(b"anybody?", unused).unwrap();
    check(open, &socket, BOTH, W | ERROR);
    // Receiving gives it once, and what is kept stays.
    assert!(socket.recv(&mut [0; 8]).is_err());
    assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    check(open, &socket, BOTH, W | ERROR);
    let mut scene = Scene::new(open);
    if scene.selector.supports(Mode::Edge) {
        scene.register(&socket, A, READ, Mode::Edge);
        scene.expect(A, ERROR);
        scene.expect_quiet();
    }
    take_kept_error(socket.as_fd()).unwrap();
    check(open, &socket, BOTH, W);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn a_kept_error_is_reported_until_it_is_read(_: Open<'_>) {}

/// Linux has descriptors that nothing can be done with but naming a file (`O_PATH`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn a_descriptor_that_only_names_a_file_is_refused_or_invalid(open: Open<'_>) {
    if is_library(open) {
        return;
    }
    let name = crate::sys::testing::name_of_root().unwrap();
    let mut scene = Scene::new(open);
    let (one, mut other) = pair();
    scene.register(&one, B, READ, Mode::Level);
    match scene.selector.register(name.as_fd(), A, READ, Mode::Level) {
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
            assert_eq!(scene.selector.registrations().len(), 1);
        }
        Ok(()) => {
            // select has no bit for it, and reports what makes a reader try.
            if scene.selector.backend() == Backend::Select {
                scene.expect(A, R);
            } else {
                scene.expect(A, Readiness::INVALID);
                scene.expect_quiet();
            }
            scene.unregister(&name);
        }
    }
    // Others are served.
    other.write_all(b"x").unwrap();
    scene.expect(B, R);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn a_descriptor_that_only_names_a_file_is_refused_or_invalid(_: Open<'_>) {}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}
