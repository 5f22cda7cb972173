//! Sends back whatever it receives, with a selector and nothing else: no tasks, no futures.
//!
//! ```text
//! cargo run --release --example echo_raw -- [--addr HOST:PORT] [--backend NAME]
//! ```
//!
//! The first line on stdout says where it listens and on what: `listening on 127.0.0.1:7000
//! (epoll)`. It runs until it is killed.
//!
//! How it is made, after the example in the documentation of Python's `selectors`:
//! - Each registered descriptor carries its own state and the callback that goes on from there:
//!   the listener's accepts, a connection's echoes. The loop knows no more than how to call it.
//! - A connection waits to read or to write, never both. What the client does not take is kept,
//!   one buffer at most, and until it is gone nothing more is read: a client that does not listen
//!   cannot make the server grow, its own sending comes to a halt.
//! - A hang-up or a reset is no event of its own: whoever is reported tries again, and the next
//!   read or write says what happened.
//! - What one callback does may end what a later event of the same batch is about. So a batch is
//!   a list of tokens, and a token never means a later connection.

use std::fmt::Display;
use std::io::ErrorKind::{
    BrokenPipe, ConnectionReset, Interrupted, InvalidInput, TimedOut, Unsupported, WouldBlock,
};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use polyloop::Backend;
use polyloop::net::{AcceptFailure, accept_failure};
use polyloop::selectors::{Interest, KeyedSelector, Mode, Token};

/// How much is read at once, and kept at most for a connection whose client does not take it.
const BUFFER_BYTES: usize = 16 * 1024;

/// How many connections are accepted before the others have their turn.
const ACCEPTS_AT_ONCE: usize = 32;

/// How many full buffers are read from a connection before the others have their turn.
const READS_AT_ONCE: usize = 16;

/// How long to rest when a connection cannot be accepted, mostly for lack of descriptors. There
/// is no event for a descriptor that becomes free, and the one that waits is reported at once.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// After so many failures of single connections in a row it is not the connections.
const FAILURES_IN_A_ROW: u32 = 128;

const HELP: &str = "\
Sends back whatever it receives, with a selector and nothing else

Usage: echo_raw [OPTIONS]

Options:
      --addr <HOST:PORT>  Where to listen; port 0 takes a free one [default: 127.0.0.1:7000]
      --backend <NAME>    select, poll, epoll or kqueue; the default is $POLYLOOP_BACKEND, or else
                          the best backend that works
  -h, --help              Print help
";

struct Arguments {
    addr: String,
    backend: Option<Backend>,
}

impl Arguments {
    fn parse() -> Result<Arguments, lexopt::Error> {
        let mut parsed = Arguments { addr: "127.0.0.1:7000".to_owned(), backend: None };
        let mut options = lexopt::Parser::from_env();
        while let Some(option) = options.next()? {
            match option {
                Long("addr") => parsed.addr = options.value()?.string()?,
                Long("backend") => parsed.backend = Some(options.value()?.parse()?),
                Long("help") | Short('h') => print_help(),
                _ => return Err(option.unexpected()),
            }
        }
        Ok(parsed)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse().unwrap_or_else(|error| exit_with_usage(error));
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
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
    complain(format_args!("{error}\n\nUsage: echo_raw [OPTIONS]\nTry '--help' for the options."));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!` it does not panic if that fails, as it does once the
/// reader of a pipe has gone away: a server does not end for that.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "echo_raw: {what}").ok();
}

/// What is registered: a socket with its state, and the callback for when it is ready.
struct Registered {
    io: Io,
    on_ready: fn(&mut Server, Token) -> io::Result<()>,
}

enum Io {
    Listener(TcpListener),
    Connection(Connection),
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.io {
            Io::Listener(listener) => listener.as_fd(),
            Io::Connection(connection) => connection.stream.as_fd(),
        }
    }
}

/// The loop's state.
struct Server {
    selector: KeyedSelector<Registered>,
    /// The listener while accepting rests, when it is not watched, and until when.
    resting: Option<(TcpListener, Instant)>,
    /// How often accepting has failed in a row.
    n_failures: u32,
}

/// Serves for ever.
fn serve(arguments: &Arguments) -> io::Result<()> {
    let opened = match arguments.backend {
        Some(backend) => KeyedSelector::open(backend),
        None => KeyedSelector::new(),
    };
    let selector = match opened {
        Err(error) if is_mistake(&error) => exit_with_usage(error),
        selector => selector?,
    };
    let listener = TcpListener::bind(&*arguments.addr).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", arguments.addr))
    })?;
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on {} ({})", listener.local_addr()?, selector.backend())?;
    stdout.flush()?;

    let mut server = Server { selector, resting: None, n_failures: 0 };
    server.listen(listener)?;
    let mut batch = Vec::new();
    loop {
        let rest = server.resting.as_ref();
        let timeout = rest.map(|(_, until)| until.saturating_duration_since(Instant::now()));
        batch.clear();
        batch.extend(server.selector.select(timeout)?.map(|(key, _)| key.token()));
        for &token in &batch {
            // Gone, if an earlier event of this batch led to that.
            if let Some(key) = server.selector.key(token) {
                (key.data().on_ready)(&mut server, token)?;
            }
        }
        let is_over = |(_, until): &mut (_, Instant)| *until <= Instant::now();
        if let Some((listener, _)) = server.resting.take_if(is_over) {
            server.listen(listener)?;
        }
    }
}

impl Server {
    /// Watches the listener.
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let data = Registered { io: Io::Listener(listener), on_ready: Server::accept };
        self.selector.register_owned(data, Interest::READABLE, Mode::Level)?;
        Ok(())
    }

    /// The listener's callback: takes those who wait.
    fn accept(&mut self, token: Token) -> io::Result<()> {
        for _ in 0..ACCEPTS_AT_ONCE {
            let Some(key) = self.selector.key(token) else { return Ok(()) };
            let Io::Listener(listener) = &key.data().io else { return Ok(()) };
            match listener.accept() {
                Ok((stream, _)) => {
                    self.n_failures = 0;
                    self.connect(stream);
                }
                Err(error) if error.kind() == WouldBlock => return Ok(()),
                Err(error) if accept_failure(&error) == AcceptFailure::Listener => {
                    return Err(error);
                }
                Err(error) => {
                    if self.n_failures == 0 {
                        complain(format_args!("cannot accept for now: {error}"));
                    }
                    self.n_failures += 1;
                    let is_exhausted = accept_failure(&error) == AcceptFailure::Exhausted;
                    if !is_exhausted && self.n_failures <= FAILURES_IN_A_ROW {
                        // Only this connection has failed, before it was its turn.
                        continue;
                    }
                    let data = self.selector.unregister_owned(token)?;
                    let Io::Listener(listener) = data.io else { return Ok(()) };
                    self.resting = Some((listener, Instant::now() + ACCEPT_REST));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Watches a new connection. If that fails, only this one is lost.
    fn connect(&mut self, stream: TcpStream) {
        let prepared = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        let connection = Connection { stream, rest: Vec::new() };
        let data = Registered { io: Io::Connection(connection), on_ready: Server::echo };
        let registered = prepared
            .and_then(|()| self.selector.register_owned(data, Interest::READABLE, Mode::Level));
        if let Err(error) = registered {
            complain(format_args!("a connection was dropped: {error}"));
        }
    }

    /// A connection's callback: goes on with whatever it was waiting for.
    fn echo(&mut self, token: Token) -> io::Result<()> {
        let Some(key) = self.selector.key_mut(token) else { return Ok(()) };
        let watched = key.interest();
        let Io::Connection(connection) = &mut key.data_mut().io else { return Ok(()) };
        match connection.go_on() {
            Ok(Some(interest)) if interest == watched => Ok(()),
            Ok(Some(interest)) => self.selector.modify_owned(token, interest, Mode::Level),
            Ok(None) => self.selector.unregister_owned(token).map(drop),
            Err(error) => {
                // To reset a connection is the client's right.
                if !matches!(error.kind(), ConnectionReset | BrokenPipe | TimedOut) {
                    complain(format_args!("a connection was dropped: {error}"));
                }
                self.selector.unregister_owned(token).map(drop)
            }
        }
    }
}

/// One client.
struct Connection {
    stream: TcpStream,
    /// What the client has not taken yet: mostly nothing, which needs no memory.
    rest: Vec<u8>,
}

impl Connection {
    /// Sends and receives as much as there is, within bounds; returns what to wait for, `None` at
    /// the end.
    fn go_on(&mut self) -> io::Result<Option<Interest>> {
        let n_sent = send(&self.stream, &self.rest)?;
        self.rest.drain(..n_sent);
        if !self.rest.is_empty() {
            return Ok(Some(Interest::WRITABLE));
        }
        self.rest = Vec::new();
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..READS_AT_ONCE {
            let received = match self.stream.read(&mut buffer) {
                // All of what came before has been sent back.
                Ok(0) => return Ok(None),
                Ok(n_bytes) => &buffer[..n_bytes],
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) if error.kind() == Interrupted => continue,
                Err(error) => return Err(error),
            };
            let n_sent = send(&self.stream, received)?;
            if n_sent < received.len() {
                self.rest = received[n_sent..].to_vec();
                return Ok(Some(Interest::WRITABLE));
            }
            if received.len() < BUFFER_BYTES {
                // That was all. If not, or if it is the end, the next wait says so.
                break;
            }
        }
        Ok(Some(Interest::READABLE))
    }
}

/// Sends until the system takes no more, and returns how much it took.
fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut n_sent = 0;
    while n_sent < bytes.len() {
        match stream.write(&bytes[n_sent..]) {
            Ok(n_bytes) => n_sent += n_bytes,
            Err(error) if error.kind() == WouldBlock => break,
            Err(error) if error.kind() == Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n_sent)
}
