//! An echo server on a bare selector, without tasks or futures.
//!
//! ```text
//! cargo run --release --example echo_raw -- [--addr HOST:PORT] [--backend NAME]
//! ```
//!
//! The first line on stdout has the address and the backend: `listening on 127.0.0.1:7000 (epoll)`.
//! It runs until it is killed.
//!
//! Design, after the example in the documentation of Python's `selectors`:
//! - Each registered descriptor has its state and a callback as data: the listener's callback accepts,
//!   a connection's callback echoes. The loop only calls them.
//! - A connection waits to read or to write, never both. Bytes that the client does not take are kept,
//!   at most one buffer, and nothing more is read until they are sent. So a client that does not read
//!   cannot make the server's memory grow: its writes block.
//! - Hang-ups and resets need no special case: the callback runs, and its read or write returns the
//!   error.
//! - A callback may close a connection that a later event of the same batch refers to. So a batch is a
//!   list of tokens, and tokens are not reused for later connections.

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
use polyloop::net::AcceptErrorKind;
use polyloop::selectors::{Interest, KeyedSelector, Mode, Token};

/// The size of one read, and the maximum that is kept for a client that does not read.
const BUFFER_BYTES: usize = 16 * 1024;

/// How many connections one callback accepts before other events are handled.
const ACCEPTS_AT_ONCE: usize = 32;

/// How many full buffers one callback reads before other events are handled.
const READS_AT_ONCE: usize = 16;

/// How long to back off when `accept` fails, mostly for lack of descriptors. No event reports a
/// descriptor that becomes free, and the waiting connection would be reported again at once.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(50);

/// After this many failed connections in a row, the server backs off as well.
const FAILURES_IN_A_ROW: u32 = 128;

const HELP: &str = "\
An echo server on a bare selector

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
    complain(format_args!("{error}\n\nUsage: echo_raw [OPTIONS]\nTry '--help' for the options."));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!`, it does not panic if that fails, as it does after the
/// reader of a pipe has closed it.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "echo_raw: {what}").ok();
}

/// The data of a registration: a socket with its state, and the callback to call when it is ready.
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
    /// The listener while it is not registered because `accept` failed, and the time to retry.
    paused: Option<(TcpListener, Instant)>,
    /// How many times in a row `accept` has failed.
    n_failures: u32,
}

/// Serves indefinitely.
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

    let mut server = Server { selector, paused: None, n_failures: 0 };
    server.listen(listener)?;
    let mut batch = Vec::new();
    loop {
        let paused = server.paused.as_ref();
        let timeout = paused.map(|(_, until)| until.saturating_duration_since(Instant::now()));
        batch.clear();
        batch.extend(server.selector.select(timeout)?.map(|(key, _)| key.token()));
        for &token in &batch {
            // It may have been unregistered by an earlier event of this batch.
            if let Some(key) = server.selector.key(token) {
                (key.data().on_ready)(&mut server, token)?;
            }
        }
        let is_over = |(_, until): &mut (_, Instant)| *until <= Instant::now();
        if let Some((listener, _)) = server.paused.take_if(is_over) {
            server.listen(listener)?;
        }
    }
}

impl Server {
    /// Registers the listener.
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        let data = Registered { io: Io::Listener(listener), on_ready: Server::accept };
        self.selector.register_owned(data, Interest::READABLE, Mode::Level)?;
        Ok(())
    }

    /// The listener's callback: accepts waiting connections.
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
                Err(error) if AcceptErrorKind::from_error(&error) == AcceptErrorKind::Listener => {
                    return Err(error);
                }
                Err(error) => {
                    if self.n_failures == 0 {
                        complain(format_args!("cannot accept for now: {error}"));
                    }
                    self.n_failures += 1;
                    let is_exhausted =
                        AcceptErrorKind::from_error(&error) == AcceptErrorKind::Exhausted;
                    if !is_exhausted && self.n_failures <= FAILURES_IN_A_ROW {
                        // Only this connection failed, before it was accepted.
                        continue;
                    }
                    let data = self.selector.unregister_owned(token)?;
                    let Io::Listener(listener) = data.io else { return Ok(()) };
                    self.paused = Some((listener, Instant::now() + ACCEPT_BACK_OFF));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Registers a new connection. If that fails, only this connection is dropped.
    fn connect(&mut self, stream: TcpStream) {
        let prepared = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
        let connection = Connection { stream, unsent: Vec::new() };
        let data = Registered { io: Io::Connection(connection), on_ready: Server::echo };
        let registered = prepared
            .and_then(|()| self.selector.register_owned(data, Interest::READABLE, Mode::Level));
        if let Err(error) = registered {
            complain(format_args!("a connection was dropped: {error}"));
        }
    }

    /// A connection's callback: continues to read or write.
    fn echo(&mut self, token: Token) -> io::Result<()> {
        let Some(key) = self.selector.key_mut(token) else { return Ok(()) };
        let watched = key.interest();
        let Io::Connection(connection) = &mut key.data_mut().io else { return Ok(()) };
        match connection.advance() {
            Ok(Some(interest)) if interest == watched => Ok(()),
            Ok(Some(interest)) => self.selector.modify_owned(token, interest, Mode::Level),
            Ok(None) => self.selector.unregister_owned(token).map(drop),
            Err(error) => {
                // Clients may reset connections.
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
    /// Bytes that the client has not taken yet; mostly empty, which does not allocate.
    unsent: Vec<u8>,
}

impl Connection {
    /// Sends and receives as much as possible, within limits. Returns the interest to wait for, or
    /// `None` after the end of the stream.
    fn advance(&mut self) -> io::Result<Option<Interest>> {
        let n_sent = send(&self.stream, &self.unsent)?;
        self.unsent.drain(..n_sent);
        if !self.unsent.is_empty() {
            return Ok(Some(Interest::WRITABLE));
        }
        self.unsent = Vec::new();
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..READS_AT_ONCE {
            let received = match self.stream.read(&mut buffer) {
                // Everything received before has been sent back.
                Ok(0) => return Ok(None),
                Ok(n_bytes) => &buffer[..n_bytes],
                Err(error) if error.kind() == WouldBlock => break,
                Err(error) if error.kind() == Interrupted => continue,
                Err(error) => return Err(error),
            };
            let n_sent = send(&self.stream, received)?;
            if n_sent < received.len() {
                self.unsent = received[n_sent..].to_vec();
                return Ok(Some(Interest::WRITABLE));
            }
            if received.len() < BUFFER_BYTES {
                // The socket is probably empty. If not, the next wait reports it again.
                break;
            }
        }
        Ok(Some(Interest::READABLE))
    }
}

/// Sends until the socket's buffer is full, and returns the number of bytes sent.
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
