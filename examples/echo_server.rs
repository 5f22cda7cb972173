//! Sends back whatever it receives, over any backend.
//!
//! ```text
//! cargo run --release --example echo_server -- [--addr HOST:PORT] [--backend NAME] [--stats]
//! ```
//!
//! The first line on stdout says where it listens and on what: `listening on 127.0.0.1:7000
//! (epoll)`. Ctrl-C or SIGTERM stops it: no more connections, two seconds for those that are
//! open, a line that says what was served.
//!
//! How it is made:
//! - One task accepts, and each connection has a task of its own. They share an `Rc<Server>`: all
//!   of them run on one thread, so nothing is locked, and a counter is a `Cell`.
//! - All connections read into one buffer. It is only borrowed between two awaits, so an idle
//!   connection owns no memory; what a slow reader leaves behind is copied, and nothing more is
//!   read from it before that is gone.

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
use polyloop::net::{AcceptFailure, TcpListener, TcpStream, accept_failure};
use polyloop::signal::{ctrl_c, terminate};
use polyloop::{Backend, Runtime};

/// How long open connections may go on after the signal to stop.
const GRACE: Duration = Duration::from_secs(2);

/// How long to rest when a connection cannot be accepted, mostly for lack of descriptors. There
/// is no event for a descriptor that another task gives back, so it is tried again from time to
/// time.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// After so many failures of single connections in a row it is not the connections.
const FAILURES_IN_A_ROW: u32 = 128;

/// How much is read at once: large enough that a system call moves much, small enough that what
/// a slow reader leaves behind is little.
const BUFFER_BYTES: usize = 64 * 1024;

const HELP: &str = "\
Sends back whatever it receives

Usage: echo_server [OPTIONS]

Options:
      --addr <HOST:PORT>  Where to listen; port 0 takes a free one [default: 127.0.0.1:7000]
      --backend <NAME>    select, poll, epoll or kqueue; the default is $POLYLOOP_BACKEND, or else
                          the best backend that works
      --stats             At the end, print what it took to serve
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

/// Reports whether an error is a mistake in the command: a backend that is unknown, or not of this
/// system, named by an option or the environment. An error of a system call has a cause or a number.
fn is_mistake(error: &io::Error) -> bool {
    matches!(error.kind(), InvalidInput | Unsupported)
        && error.get_ref().is_some_and(|reason| reason.source().is_none())
}

fn print_help() -> ! {
    // A reader of stdout that has gone away needs no help.
    io::stdout().write_all(HELP.as_bytes()).ok();
    process::exit(0)
}

fn exit_with_usage(error: impl Display) -> ! {
    complain(format_args!(
        "{error}\n\nUsage: echo_server [OPTIONS]\nTry '--help' for the options."
    ));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!` it does not panic if that fails, as it does once the
/// reader of a pipe has gone away: a server does not end for that.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "echo_server: {what}").ok();
}

/// Serves until a signal comes.
async fn serve(arguments: &Arguments, backend: Backend) -> io::Result<()> {
    // First the signals: one that comes while the socket is made is not missed.
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
    // Nobody listens for signals any more, so a second Ctrl-C ends the program at once.
    // The listener goes with the task that owns it.
    accepting.abort();
    // If the time is up, those who are left are cut off by the end of the loop.
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
                let failure = accept_failure(&error);
                if failure == AcceptFailure::Listener {
                    return error;
                }
                // Once for each series, or a full table of descriptors would fill the log too.
                if n_failures == 0 {
                    complain(format_args!("cannot accept for now: {error}"));
                }
                n_failures += 1;
                // Where only one connection has failed, the next one is tried at once.
                if failure == AcceptFailure::Exhausted || n_failures > FAILURES_IN_A_ROW {
                    polyloop::sleep(ACCEPT_REST).await;
                }
            }
        }
    }
}

/// Serves one connection to its end.
async fn attend(stream: TcpStream, server: Rc<Server>) {
    let _open = Open::new(&server);
    if let Err(error) = echo(&stream, &server).await {
        server.n_broken.set(server.n_broken.get() + 1);
        // To reset a connection is the client's right. Anything else is worth a line, such as a
        // descriptor that select cannot watch.
        if !matches!(error.kind(), ConnectionReset | BrokenPipe | TimedOut) {
            complain(format_args!("a connection was dropped: {error}"));
        }
    }
}

/// Sends back what the client sends, until it sends no more.
async fn echo(stream: &TcpStream, server: &Server) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        stream.readable().await?;
        let rest = {
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
            // Mostly nothing, which allocates nothing.
            received[n_sent..].to_vec()
        };
        if !rest.is_empty() {
            stream.write_all(&rest).await?;
        }
    }
}

/// What all tasks share.
struct Server {
    buffer: RefCell<Box<[u8]>>,
    n_open: Cell<u64>,
    /// Whoever waits for the last connection to end.
    waker: Cell<Option<Waker>>,
    n_connections: Cell<u64>,
    n_broken: Cell<u64>,
    /// Reads that brought something: a stream does not say where a message ends.
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

    /// Says what was served, and with `stats` what that took.
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
            let n_calls = metrics.n_waits + metrics.n_control_calls + metrics.n_io_calls;
            writeln!(out, "connections               {n_connections:>12}")?;
            writeln!(out, "  reset or broken         {:>12}", self.n_broken.get())?;
            writeln!(out, "messages                  {n_messages:>12}")?;
            writeln!(out, "bytes                     {n_bytes:>12}")?;
            writeln!(out, "selector waits            {:>12}", metrics.n_waits)?;
            writeln!(out, "control calls             {:>12}", metrics.n_control_calls)?;
            writeln!(out, "reads, writes, accepts    {:>12}", metrics.n_io_calls)?;
            let calls_per_message = n_calls as f64 / n_messages.max(1) as f64;
            writeln!(out, "system calls per message  {calls_per_message:>12.3}")?;
        }
        out.flush()
    }
}

/// Counts a connection for as long as it lives, whichever way it ends.
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
