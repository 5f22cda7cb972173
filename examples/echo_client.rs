//! A load generator for an echo server: verifies every byte and measures the latency.
//!
//! ```text
//! cargo run --release --example echo_client -- [--addr HOST:PORT] [--connections N] [--size BYTES]
//!     [--in-flight N] [--seconds S] [--backend NAME] [--congestion NAME]
//! ```
//!
//! Each connection keeps `--in-flight` messages in flight: it sends one more for each that has come
//! back. The latency of a message is the time from the write of its first byte to the read of its
//! last one. A server that stalls also stalls the sending (a *closed* loop), so the latencies are
//! those of these clients, not of clients that arrive independently.
//!
//! Some machines use the congestion control bbr, whose pacing dominates the figures even on the
//! loopback. `--congestion reno` replaces it for what the client sends. For the server's side, set
//! `sysctl net.ipv4.tcp_congestion_control`, for example in a network namespace.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::ErrorKind::{
    InvalidData, InvalidInput, TimedOut, UnexpectedEof, Unsupported, WouldBlock,
};
use std::io::{self, IsTerminal, Write};
use std::net::Shutdown;
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use polyloop::future::Either;
use polyloop::net::TcpStream;
use polyloop::{Backend, Runtime};
use sketches_ddsketch::{Config, DDSketch};

/// The maximum size of one read or write.
const CHUNK_BYTES: usize = 64 * 1024;

/// The maximum of `--seconds`.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The period of the bytes that are sent. It is prime, so that a lost, repeated or reordered message
/// of any size shifts the sequence.
const PATTERN_PERIOD: usize = 65_537;

/// The relative error of a reported latency.
const LATENCY_ERROR: f64 = 0.0005;

/// Enough buckets of that width for latencies from a nanosecond to a year.
const N_LATENCIES: u32 = 40_000;

/// How long to wait for the answers that are in flight when the time is up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

const HELP: &str = "\
A load generator for an echo server that verifies every byte

Usage: echo_client [OPTIONS]

Options:
      --addr <HOST:PORT>   Where the server listens [default: 127.0.0.1:7000]
      --connections <N>    How many connections to keep open [default: 50]
      --size <BYTES>       The size of a message [default: 64]
      --in-flight <N>      How many messages each connection keeps in flight [default: 1]
      --seconds <SECONDS>  How long to send [default: 5]
      --backend <NAME>     select, poll, epoll or kqueue; the default is $POLYLOOP_BACKEND, or else
                           the best backend that works
      --congestion <NAME>  The TCP congestion control to request, such as reno
  -h, --help               Print help
";

struct Arguments {
    addr: String,
    connections: u32,
    size: u32,
    in_flight: u32,
    seconds: Duration,
    backend: Option<Backend>,
    congestion: Option<String>,
}

impl Arguments {
    fn parse() -> Result<Arguments, lexopt::Error> {
        let mut parsed = Arguments {
            addr: "127.0.0.1:7000".to_owned(),
            connections: 50,
            size: 64,
            in_flight: 1,
            seconds: Duration::from_secs(5),
            backend: None,
            congestion: None,
        };
        let mut options = lexopt::Parser::from_env();
        while let Some(option) = options.next()? {
            match option {
                Long("addr") => parsed.addr = options.value()?.string()?,
                Long("connections") => {
                    parsed.connections = options.value()?.parse_with(positive)?
                }
                Long("size") => parsed.size = options.value()?.parse_with(positive)?,
                Long("in-flight") => parsed.in_flight = options.value()?.parse_with(positive)?,
                Long("seconds") => parsed.seconds = options.value()?.parse_with(seconds)?,
                Long("backend") => parsed.backend = Some(options.value()?.parse()?),
                Long("congestion") => parsed.congestion = Some(options.value()?.string()?),
                Long("help") | Short('h') => print_help(),
                _ => return Err(option.unexpected()),
            }
        }
        Ok(parsed)
    }
}

fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration.is_zero() => Err("must be more than 0".to_owned()),
        // `Instant` may not represent a later time.
        Ok(duration) if duration > YEAR => Err("must be less than a year".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
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
    runtime.block_on(load(arguments, runtime.backend()))?
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
        "{error}\n\nUsage: echo_client [OPTIONS]\nTry '--help' for the options."
    ));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!`, it does not panic if that fails.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "echo_client: {what}").ok();
}

/// Connects, sends for the given time, and reports.
async fn load(arguments: &Arguments, backend: Backend) -> io::Result<()> {
    // All connections first, so that connecting is not measured.
    let mut streams = Vec::new();
    for _ in 0..arguments.connections {
        let connected = TcpStream::connect(&*arguments.addr).await;
        let stream = connected
            .map_err(|error| named(error, format!("cannot connect to {}", arguments.addr)))?;
        stream.set_nodelay(true)?;
        if let Some(name) = &arguments.congestion {
            set_congestion(&stream, name)?;
        }
        streams.push(stream);
    }

    let started = Instant::now();
    let run = Rc::new(Run::new(arguments, started + arguments.seconds));
    let clients: Vec<_> = (1..)
        .zip(streams)
        .map(|(number, stream)| {
            let client = Client::new(Rc::clone(&run), stream, number);
            polyloop::spawn(async move {
                client.talk().await.map_err(|error| named(error, format!("connection {number}")))
            })
        })
        .collect();
    if io::stderr().is_terminal() {
        polyloop::spawn(show_progress(Rc::clone(&run), started));
    }
    for client in clients {
        client.await??;
    }
    run.report(arguments, backend, started.elapsed())
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn set_congestion(stream: &TcpStream, name: &str) -> io::Result<()> {
    let set = socket2::SockRef::from(stream).set_tcp_congestion(name.as_bytes());
    set.map_err(|error| named(error, format!("cannot use the congestion control {name}")))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn set_congestion(_stream: &TcpStream, _name: &str) -> io::Result<()> {
    Err(io::Error::new(Unsupported, "this system has no choice of congestion controls"))
}

/// State that all connections share.
struct Run {
    message_bytes: u64,
    window_bytes: u64,
    ends: Instant,
    /// Two periods of the bytes to send, so that a chunk can start anywhere in the period.
    pattern: Box<[u8]>,
    buffer: RefCell<Box<[u8]>>,
    latencies_ns: RefCell<DDSketch>,
    n_messages: Cell<u64>,
}

impl Run {
    fn new(arguments: &Arguments, ends: Instant) -> Run {
        let message_bytes = u64::from(arguments.size);
        let mut pattern = vec![0; PATTERN_PERIOD];
        fastrand::Rng::with_seed(message_bytes).fill(&mut pattern);
        pattern.extend_from_within(..);
        Run {
            message_bytes,
            window_bytes: message_bytes * u64::from(arguments.in_flight),
            ends,
            pattern: pattern.into(),
            buffer: RefCell::new(vec![0; CHUNK_BYTES].into()),
            latencies_ns: RefCell::new(DDSketch::new(Config::new(LATENCY_ERROR, N_LATENCIES, 1.0))),
            n_messages: Cell::default(),
        }
    }

    /// Returns `n` bytes of the infinite sequence, from `position` on.
    fn sequence(&self, position: u64, n: usize) -> &[u8] {
        let start = (position % PATTERN_PERIOD as u64) as usize;
        &self.pattern[start..][..n]
    }

    /// Returns a quantile of the latencies, or 0 if there are none.
    fn latency_us(&self, quantile: f64) -> f64 {
        let latencies = self.latencies_ns.borrow();
        let ns = latencies.quantile(quantile).expect("a quantile is from 0 to 1");
        // An estimate may exceed the maximum.
        ns.unwrap_or(0.0).min(latencies.max().unwrap_or(0.0)) / 1e3
    }

    fn report(&self, arguments: &Arguments, backend: Backend, took: Duration) -> io::Result<()> {
        let n_messages = self.n_messages.get();
        let n_bytes = n_messages * self.message_bytes;
        let mut out = io::stdout();
        writeln!(
            out,
            "{} connections × {} in flight × {} bytes for {:.2} s ({backend}), every byte verified",
            arguments.connections,
            arguments.in_flight,
            arguments.size,
            took.as_secs_f64(),
        )?;
        writeln!(
            out,
            "{:.0} messages/s, {:.1} MB/s each way ({n_messages} messages)",
            n_messages as f64 / took.as_secs_f64(),
            n_bytes as f64 / took.as_secs_f64() / 1e6,
        )?;
        if n_messages == 0 {
            return writeln!(out, "no message came back, so there is no latency to report");
        }
        writeln!(
            out,
            "latency p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
            self.latency_us(0.5),
            self.latency_us(0.99),
            self.latency_us(0.999),
            self.latency_us(1.0),
        )?;
        out.flush()
    }
}

/// One connection.
struct Client {
    run: Rc<Run>,
    stream: TcpStream,
    /// The start in the infinite sequence; it differs, so that bytes of another connection are detected.
    origin: u64,
    n_sent: u64,
    n_received: u64,
    /// The start time of each message in flight.
    started: VecDeque<Instant>,
    is_over: bool,
}

impl Client {
    fn new(run: Rc<Run>, stream: TcpStream, number: u64) -> Client {
        Client {
            run,
            stream,
            origin: number,
            n_sent: 0,
            n_received: 0,
            started: VecDeque::new(),
            is_over: false,
        }
    }

    /// Keeps the window full until the time is up, then waits for the messages in flight.
    async fn talk(mut self) -> io::Result<()> {
        loop {
            self.send()?;
            if self.receive()? {
                continue;
            }
            if self.is_over && self.n_received == self.n_sent {
                break;
            }
            // Wait for both directions: a server may stop reading until its answers are read, which would
            // deadlock with a client that only writes.
            let wants_to_send = self.n_sent < self.may_send_up_to();
            let deadline = self.run.ends + ANSWER_TIMEOUT;
            let ready = async {
                if !wants_to_send {
                    return self.stream.readable().await;
                }
                match polyloop::race(self.stream.readable(), self.stream.writable()).await {
                    Either::Left(ready) | Either::Right(ready) => ready,
                }
            };
            let waited = polyloop::time::timeout_at(deadline, ready).await;
            waited.map_err(|_| io::Error::new(TimedOut, self.progress("no answer")))??;
        }
        // The server sends back everything, then closes its side.
        self.stream.shutdown(Shutdown::Write)?;
        let mut byte = [0];
        let ended = polyloop::timeout(ANSWER_TIMEOUT, self.stream.read(&mut byte));
        match ended.await.map_err(|_| io::Error::new(TimedOut, self.progress("not closed")))?? {
            0 => Ok(()),
            _ => Err(io::Error::new(InvalidData, self.progress("more came back than was sent"))),
        }
    }

    /// Returns the position in the sequence up to which the window allows to send.
    fn may_send_up_to(&self) -> u64 {
        let size = self.run.message_bytes;
        if self.is_over {
            // A message that has been started is completed.
            return self.n_sent.next_multiple_of(size);
        }
        self.n_received / size * size + self.run.window_bytes
    }

    /// Sends as much as the window and the socket allow.
    fn send(&mut self) -> io::Result<()> {
        while self.n_sent < self.may_send_up_to() {
            let now = Instant::now();
            self.is_over |= now >= self.run.ends;
            let n = (self.may_send_up_to() - self.n_sent).min(CHUNK_BYTES as u64) as usize;
            if n == 0 {
                break;
            }
            let n = match self.stream.try_write(self.run.sequence(self.origin + self.n_sent, n)) {
                Err(error) if error.kind() == WouldBlock => break,
                n => n?,
            };
            let size = self.run.message_bytes;
            let n_started = (self.n_sent + n as u64).div_ceil(size) - self.n_sent.div_ceil(size);
            self.started.extend((0..n_started).map(|_| now));
            self.n_sent += n as u64;
        }
        Ok(())
    }

    /// Reads once and verifies the bytes. Returns `false` if the read would block.
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = self.run.buffer.borrow_mut();
        let received = match self.stream.try_read(&mut buffer) {
            Err(error) if error.kind() == WouldBlock => return Ok(false),
            n => &buffer[..n?],
        };
        if received.is_empty() {
            return Err(io::Error::new(UnexpectedEof, self.progress("closed by the server")));
        }
        if received.len() as u64 > self.n_sent - self.n_received {
            let message = self.progress("more came back than was sent");
            return Err(io::Error::new(InvalidData, message));
        }
        let expected = self.run.sequence(self.origin + self.n_received, received.len());
        if received != expected {
            let wrong = received.iter().zip(expected).position(|(is, should)| is != should);
            let at = wrong.expect("unequal slices of one length differ somewhere");
            let (is, should) = (received[at], expected[at]);
            let position = self.n_received + at as u64;
            let message = format!("byte {position} came back as {is:#04x} and was {should:#04x}");
            return Err(io::Error::new(InvalidData, message));
        }
        let (size, n_before) = (self.run.message_bytes, self.n_received);
        self.n_received += received.len() as u64;
        let n_complete = self.n_received / size - n_before / size;
        self.run.n_messages.set(self.run.n_messages.get() + n_complete);
        let now = Instant::now();
        let mut latencies_ns = self.run.latencies_ns.borrow_mut();
        for started in self.started.drain(..n_complete as usize) {
            latencies_ns.add((now - started).as_nanos() as f64);
        }
        Ok(true)
    }

    fn progress(&self, what: &str) -> String {
        format!("{what} after {} of {} bytes", self.n_received, self.n_sent)
    }
}

/// Prints a line per second.
async fn show_progress(run: Rc<Run>, started: Instant) {
    let mut ticks = polyloop::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut n_before = 0;
    loop {
        ticks.tick().await;
        let n_messages = run.n_messages.get();
        let p99_us = run.latency_us(0.99);
        // If the terminal is closed, only the display ends.
        let shown = writeln!(
            io::stderr(),
            "{:3.0} s  {:>9} messages/s  p99 so far {p99_us:.1} µs",
            started.elapsed().as_secs_f64(),
            n_messages - n_before,
        );
        if shown.is_err() {
            return;
        }
        n_before = n_messages;
    }
}

/// Adds context to an error.
fn named(error: io::Error, what: String) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
