//! An echo server on any backend.
//!
//! ```text
//! cargo run --release --example echo_server -- [--addr HOST:PORT] [--backend NAME] [--stats]
//! ```
//!
//! The first line on stdout has the address and the backend: `listening on 127.0.0.1:7000 (epoll)`.
//! Ctrl-C or SIGTERM stops it: it accepts no more connections, gives open ones two seconds to end,
//! and prints what it served.
//!
//! Design:
//! - One task accepts, and each connection has its task. They share an `Rc<Server>`: all of them run
//!   on one thread, so there are no locks, and counters are `Cell`s.
//! - All connections read into one buffer. It is borrowed only between two awaits, so an idle
//!   connection holds no buffer. Bytes that a slow reader does not take are copied, and nothing more
//!   is read from that client until they are sent.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::future::poll_fn;
use std::io::ErrorKind::{
    BrokenPipe, ConnectionReset, InvalidInput, TimedOut, Unsupported, WouldBlock,
};
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use lexopt::prelude::*;
use polyloop::future::Either;
use polyloop::net::{AcceptErrorKind, TcpListener, TcpStream};
use polyloop::signal::{ctrl_c, terminate};
use polyloop::{Backend, Runtime};

/// How long open connections may continue after the signal.
const GRACE: Duration = Duration::from_secs(2);

/// How long to back off when `accept` fails, mostly for lack of descriptors. No event reports a
/// descriptor that becomes free, so the server polls for one.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// After this many failed connections in a row, the server backs off as well.
const FAILURES_IN_A_ROW: u32 = 128;

/// The size of one read: large, so that a system call moves much; not too large, because a slow
/// reader may leave all of it unsent.
const BUFFER_BYTES: usize = 64 * 1024;

const HELP: &str = "\
An echo server

Usage: echo_server [OPTIONS]

Options:
      --addr <HOST:PORT>  Where to listen; port 0 takes a free one [default: 127.0.0.1:7000]
      --backend <NAME>    select, poll, epoll or kqueue; the default is $POLYLOOP_BACKEND, or else
                          the best backend that works
      --stats             At the end, print counters such as system calls per message
  -h, --help              Print help
";

struct Arguments {
    addr: String,
    backend: Option<Backend>,
    stats: bool,
}

impl Arguments {
    fn parse() -> Result<Arguments, lexopt::Error> {
        let mut parsed =
            Arguments { addr: "127.0.0.1:7000".to_owned(), backend: None, stats: false };
        let mut options = lexopt::Parser::from_env();
        while let Some(option) = options.next()? {
            match option {
                Long("addr") => parsed.addr = options.value()?.string()?,
                Long("backend") => parsed.backend = Some(options.value()?.parse()?),
                Long("stats") => parsed.stats = true,
                Long("help") | Short('h') => print_help(),
                _ => return Err(option.unexpected()),
            }
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse().unwrap_or_else(|error| exit_with_usage(error));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let mut builder = Runtime::builder();
    if let Some(backend) = arguments.backend {
        builder = builder.backend(backend);
    }
    let runtime = match builder.build() {
        Err(error) if is_mistake(&error) => exit_with_usage(error),
        runtime => runtime?,
    };
    runtime.block_on(serve(arguments, runtime.backend()))?
}

/// Reports whether an error is a mistake in the command: an option or the environment names a backend
/// that is unknown or that this system lacks. An error of a system call has a source or an errno.
fn is_mistake(error: &io::Error) -> bool {
    matches!(error.kind(), InvalidInput | Unsupported)
        && error.get_ref().is_some_and(|reason| reason.source().is_none())
}

fn print_help() -> ! {
    // A closed stdout is no error here.
    io::stdout().write_all(HELP.as_bytes()).ok();
    process::exit(0)
}

fn exit_with_usage(error: impl Display) -> ! {
    complain(format_args!(
        "{error}\n\nUsage: echo_server [OPTIONS]\nTry '--help' for the options."
    ));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!`, it does not panic if that fails, as it does after the
/// reader of a pipe has closed it.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "echo_server: {what}").ok();
}

/// Serves until a signal arrives.
async fn serve(arguments: &Arguments, backend: Backend) -> io::Result<()> {
    // Before `bind`, so that no signal is missed in between.
    let (ctrl_c, terminate) = (ctrl_c(), terminate());
    let listener = TcpListener::bind(&*arguments.addr).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", arguments.addr))
    })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {} ({backend})", listener.local_addr()?)?;
    stdout.flush()?;

    let server = Rc::new(Server::default());
    let mut accepting = polyloop::spawn(accept(listener, Rc::clone(&server)));
    match polyloop::race(polyloop::race(ctrl_c, terminate), &mut accepting).await {
        Either::Left(Either::Left(signal) | Either::Right(signal)) => signal?,
        Either::Right(broken) => return Err(broken?),
    }
    // The signal futures are dropped, so a second Ctrl-C ends the program at once.
    // Aborting the task drops the listener that it owns.
    accepting.abort();
    // Connections that are still open then end with the loop.
    let in_time = polyloop::timeout(GRACE, server.idle()).await.is_ok();
    server.report(&mut stdout, in_time, arguments.stats)
}

/// Accepts connections and starts a task for each, until the listener is broken.
async fn accept(listener: TcpListener, server: Rc<Server>) -> io::Error {
    let mut n_failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                n_failures = 0;
                polyloop::spawn(attend(stream, Rc::clone(&server)));
            }
            Err(error) => {
                let kind = AcceptErrorKind::from_error(&error);
                if kind == AcceptErrorKind::Listener {
                    return error;
                }
                // Once per series of failures, or lack of descriptors would fill the log.
                if n_failures == 0 {
                    complain(format_args!("cannot accept for now: {error}"));
                }
                n_failures += 1;
                // If only this connection failed, the next one is accepted at once.
                if kind == AcceptErrorKind::Exhausted || n_failures > FAILURES_IN_A_ROW {
                    polyloop::sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }
}

/// Serves one connection until it closes.
async fn attend(stream: TcpStream, server: Rc<Server>) {
    let _open = Open::new(&server);
    if let Err(error) = echo(&stream, &server).await {
        server.n_broken.set(server.n_broken.get() + 1);
        // Clients may reset connections. Other errors are printed, such as a descriptor that select
        // cannot watch.
        if !matches!(error.kind(), ConnectionReset | BrokenPipe | TimedOut) {
            complain(format_args!("a connection was dropped: {error}"));
        }
    }
}

/// Sends back what the client sends, until it closes its side.
async fn echo(stream: &TcpStream, server: &Server) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        stream.readable().await?;
        let unsent = {
            let mut buffer = server.buffer.borrow_mut();
            let received = match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => &buffer[..n],
                Err(error) if error.kind() == WouldBlock => continue,
                Err(error) => return Err(error),
            };
            server.n_messages.set(server.n_messages.get() + 1);
            server.n_bytes.set(server.n_bytes.get() + received.len() as u64);
            let n_sent = match stream.try_write(received) {
                Err(error) if error.kind() == WouldBlock => 0,
                sent => sent?,
            };
            // Mostly empty, which does not allocate.
            received[n_sent..].to_vec()
        };
        if !unsent.is_empty() {
            stream.write_all(&unsent).await?;
        }
    }
}

/// State that all tasks share.
struct Server {
    buffer: RefCell<Box<[u8]>>,
    n_open: Cell<u64>,
    /// The task that waits for the last connection to close.
    waker: Cell<Option<Waker>>,
    n_connections: Cell<u64>,
    n_broken: Cell<u64>,
    /// Reads that returned data: a stream has no message boundaries.
    n_messages: Cell<u64>,
    n_bytes: Cell<u64>,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            buffer: RefCell::new(vec![0; BUFFER_BYTES].into()),
            n_open: Cell::default(),
            waker: Cell::default(),
            n_connections: Cell::default(),
            n_broken: Cell::default(),
            n_messages: Cell::default(),
            n_bytes: Cell::default(),
        }
    }
}

impl Server {
    /// Waits until no connection is open.
    async fn idle(&self) {
        poll_fn(|cx| {
            if self.n_open.get() == 0 {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Prints what was served, and with `stats` the counters.
    fn report(&self, out: &mut impl Write, in_time: bool, stats: bool) -> io::Result<()> {
        let (n_connections, n_messages) = (self.n_connections.get(), self.n_messages.get());
        let n_bytes = self.n_bytes.get();
        writeln!(
            out,
            "served {n_connections} connections, {n_messages} messages, {n_bytes} bytes"
        )?;
        if !in_time {
            writeln!(out, "cut off {} connections after {GRACE:?}", self.n_open.get())?;
        }
        if stats {
            let metrics = polyloop::runtime::metrics();
            let n_calls = metrics.waits + metrics.control_calls + metrics.io_calls;
            writeln!(out, "connections               {n_connections:>12}")?;
            writeln!(out, "  reset or broken         {:>12}", self.n_broken.get())?;
            writeln!(out, "messages                  {n_messages:>12}")?;
            writeln!(out, "bytes                     {n_bytes:>12}")?;
            writeln!(out, "selector waits            {:>12}", metrics.waits)?;
            writeln!(out, "control calls             {:>12}", metrics.control_calls)?;
            writeln!(out, "reads, writes, accepts    {:>12}", metrics.io_calls)?;
            let calls_per_message = n_calls as f64 / n_messages.max(1) as f64;
            writeln!(out, "system calls per message  {calls_per_message:>12.3}")?;
        }
        out.flush()
    }
}

/// Counts a connection as open until it is dropped.
struct Open<'a>(&'a Server);

impl Open<'_> {
    fn new(server: &Server) -> Open<'_> {
        server.n_connections.set(server.n_connections.get() + 1);
        server.n_open.set(server.n_open.get() + 1);
        Open(server)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.n_open.set(self.0.n_open.get() - 1);
        if self.0.n_open.get() == 0
            && let Some(waker) = self.0.waker.take()
        {
            waker.wake();
        }
    }
}
