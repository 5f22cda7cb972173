//! Aim: errors and panics while accepting or serving end nothing else.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net;
use std::rc::Rc;
use std::sync::Mutex;

use polyloop_executor::{run, spawn, yield_now};

use super::{Server, ServerReport};
use crate::AsyncFd;
use crate::accept::sealed;

/// A result of `accept`.
#[derive(Clone, Copy, Debug)]
enum Step {
    Errno(i32),
    Panic,
    /// A connection of the client with this number.
    Client(u32),
}

/// A listener that follows a script, after which it has no connections.
struct Scripted {
    fd: AsyncFd<Script>,
}

#[derive(Debug)]
struct Script {
    /// A descriptor that is always readable.
    fd: net::UnixStream,
    _other: net::UnixStream,
    steps: Mutex<VecDeque<Step>>,
}

impl AsFd for Script {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl sealed::Listener for Scripted {
    type Io = Script;
    type Stream = ();
    type Addr = u32;

    fn fd(&self) -> &AsyncFd<Script> {
        &self.fd
    }

    fn local_addr(&self) -> io::Result<u32> {
        Ok(0)
    }

    fn accept(script: &Script) -> io::Result<((), u32)> {
        let step = script.steps.lock().unwrap().pop_front();
        match step {
            None => Err(io::ErrorKind::WouldBlock.into()),
            Some(Step::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Step::Panic) => panic!("while accepting"),
            Some(Step::Client(number)) => Ok(((), number)),
        }
    }
}

fn scripted(steps: impl IntoIterator<Item = Step>) -> Server<Scripted> {
    let (fd, mut other) = net::UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut other, b"x").unwrap();
    let steps = Mutex::new(steps.into_iter().collect());
    let fd = AsyncFd::new(Script { fd, _other: other, steps }).unwrap();
    Server::from_listener(Scripted { fd })
}

/// Serves until `n_clients` have been served, and returns the reported events.
fn serve(server: Server<Scripted>, n_clients: u64) -> (ServerReport, Vec<String>) {
    run(async {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let events = Rc::clone(&reports);
        let server = server.on_event(move |event| {
            events.borrow_mut().push(event.to_string());
            panic!("the callback panics as well");
        });
        let (handle, shared) = (server.shutdown_handle(), Rc::clone(&server.shared));
        let serving = spawn(server.serve(async |(), session| match session.peer() {
            13 => panic!("the handler panics"),
            14 => Err(io::Error::other("the handler fails")),
            _ => Ok(()),
        }));
        let count = || {
            let report = shared.report();
            report.served + report.failed
        };
        while count() < n_clients {
            assert!(!serving.is_finished(), "the server has ended: {:?}", serving.await);
            yield_now().await;
        }
        handle.shutdown();
        let report = serving.await.unwrap().unwrap();
        let reports = reports.borrow().clone();
        (report, reports)
    })
    .unwrap()
}

#[test]
fn an_error_of_one_connection_costs_no_other() {
    let errors = [libc::EOPNOTSUPP, libc::EACCES, libc::EPERM, libc::EPROTO, libc::ECONNABORTED];
    for errno in errors {
        let steps = [Step::Client(1), Step::Errno(errno), Step::Client(2), Step::Client(3)];
        let (report, reports) = serve(scripted(steps), 3);
        assert_eq!(report.served, 3, "errno {errno}");
        assert_eq!(reports.len(), 1, "{reports:?}");
    }
}

#[test]
fn an_error_of_the_listener_ends_the_server() {
    let server = scripted([Step::Client(1), Step::Errno(libc::EBADF)]);
    let ended = run(server.serve(async |(), _| Ok(()))).unwrap();
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn a_panic_while_accepting_costs_that_connection() {
    let steps = [Step::Panic, Step::Client(1), Step::Panic, Step::Panic, Step::Client(2)];
    let (report, reports) = serve(scripted(steps), 2);
    assert_eq!(report.served, 2);
    assert_eq!(reports.len(), 3);
    assert!(reports[0].contains("accepting a connection panicked"), "{reports:?}");
}

#[test]
fn a_panicking_report_of_a_panicking_handler_ends_nothing() {
    let steps = [13, 14, 13, 1].map(Step::Client);
    let (report, reports) = serve(scripted(steps), 4);
    assert_eq!((report.served, report.failed), (1, 3));
    assert_eq!(
        reports,
        [
            "the handler of 13 panicked",
            "the handler of 14 failed: the handler fails",
            "the handler of 13 panicked",
        ]
    );
}
