//! Loads an echo server, verifies every byte that comes back, and tells how long it took.
//!
//! ```text
//! cargo run --release --example echo_client -- [--addr HOST:PORT] [--connections N] [--size BYTES]
//!     [--in-flight N] [--seconds S] [--backend NAME] [--congestion NAME]
//! ```
//!
//! Each connection keeps `--in-flight` messages on their way: it sends one more for each that has
//! come back. The latency of a message is from the write that took its first byte to the read that
//! brought its last one. A server that stalls also stalls the sending (a *closed* loop), so the
//! latencies say what these clients saw, not what clients that arrive by themselves would see.
//!
//! Some machines use the congestion control bbr, which paces even the loopback and makes the figures
//! its own. `--congestion reno` changes that for what the client sends; what the server sends goes by
//! the system's setting (`sysctl net.ipv4.tcp_congestion_control`, also in a network namespace).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::io::ErrorKind::{
    InvalidData, InvalidInput, TimedOut, UnexpectedEof, Unsupported, WouldBlock,
};
use std::io::{self, IsTerminal, Write};
use std::net::Shutdown;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::error::ErrorKind::ValueValidation;
use clap::{CommandFactory, Parser};
use hdrhistogram::Histogram;
use polyloop::net::TcpStream;
use polyloop::{Backend, Either, Runtime};

/// The most that one system call reads or writes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The period of the bytes that are sent, a prime: a message that is lost, doubled or moved
/// shifts the sequence against itself at once, whatever the size of the messages.
const PATTERN_PERIOD: usize = 65_537;

/// How long to wait for answers that are on their way when the time is up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loads an echo server and verifies every byte that comes back.
#[derive(Parser)]
#[command(name = "echo_client")]
struct Arguments {
    /// Where the server listens.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    addr: String,

    /// How many connections to keep open.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// The size of a message in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,

    /// How many messages each connection has on their way.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,

    /// How long to send.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,

    /// select, poll, epoll or kqueue; without it $POLYLOOP_BACKEND, or else the best that works.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,

    /// The TCP congestion control to ask for, such as reno.
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let mut builder = Runtime::builder();
    if let Some(name) = &arguments.backend {
        let backend = name.parse::<Backend>();
        builder = builder.backend(backend.unwrap_or_else(|error| exit_with_usage(error)));
    }
    let runtime = match builder.build() {
        // Not of this system, or unknown and named by the environment.
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => exit_with_usage(error),
        runtime => runtime?,
    };
    runtime.block_on(load(arguments, runtime.backend()))?
}

fn exit_with_usage(error: impl Display) -> ! {
    Arguments::command().error(ValueValidation, error).exit()
}

/// Connects, sends for as long as was asked, and reports.
async fn load(arguments: &Arguments, backend: Backend) -> io::Result<()> {
    // All connections first, so that making them is no part of what is measured.
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
    let run = Rc::new(Run::new(arguments, started + arguments.seconds)?);
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

/// What all connections share.
struct Run {
    message_bytes: u64,
    window_bytes: u64,
    ends: Instant,
    /// The bytes to send, twice, so that a chunk can begin anywhere in the period.
    pattern: Box<[u8]>,
    buffer: RefCell<Box<[u8]>>,
    latencies_ns: RefCell<Histogram<u64>>,
    n_messages: Cell<u64>,
}

impl Run {
    fn new(arguments: &Arguments, ends: Instant) -> io::Result<Run> {
        let message_bytes = u64::from(arguments.size);
        let mut pattern = vec![0; PATTERN_PERIOD];
        fastrand::Rng::with_seed(message_bytes).fill(&mut pattern);
        pattern.extend_from_within(..);
        // Three significant digits, growing with what is recorded.
        let latencies_ns = Histogram::new(3).map_err(io::Error::other)?;
        Ok(Run {
            message_bytes,
            window_bytes: message_bytes * u64::from(arguments.in_flight),
            ends,
            pattern: pattern.into(),
            buffer: RefCell::new(vec![0; CHUNK_BYTES].into()),
            latencies_ns: RefCell::new(latencies_ns),
            n_messages: Cell::default(),
        })
    }

    /// Returns `n` bytes of the endless sequence that is sent, from `position` on.
    fn sequence(&self, position: u64, n: usize) -> &[u8] {
        let start = (position % PATTERN_PERIOD as u64) as usize;
        &self.pattern[start..][..n]
    }

    fn report(&self, arguments: &Arguments, backend: Backend, took: Duration) -> io::Result<()> {
        let n_messages = self.n_messages.get();
        let n_bytes = n_messages * self.message_bytes;
        let latencies = self.latencies_ns.borrow();
        let us = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
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
        writeln!(
            out,
            "latency p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
            us(0.5),
            us(0.99),
            us(0.999),
            latencies.max() as f64 / 1e3,
        )?;
        out.flush()
    }
}

/// One connection.
struct Client {
    run: Rc<Run>,
    stream: TcpStream,
    /// Where in the endless sequence it begins: bytes of another connection would be noticed.
    origin: u64,
    n_sent: u64,
    n_received: u64,
    /// When each message that is on its way was begun.
    begun: VecDeque<Instant>,
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
            begun: VecDeque::new(),
            is_over: false,
        }
    }

    /// Keeps the window full until the time is up, then waits for what is on its way.
    async fn talk(mut self) -> io::Result<()> {
        loop {
            self.send()?;
            if self.receive()? {
                continue;
            }
            if self.is_over && self.n_received == self.n_sent {
                break;
            }
            // A server that stops reading because its own answers are not read must not meet a
            // client that does the same.
            let wants_to_send = self.n_sent < self.may_send_up_to();
            let deadline = self.run.ends + PATIENCE;
            let ready = async {
                if !wants_to_send {
                    return self.stream.readable().await;
                }
                match polyloop::race(self.stream.readable(), self.stream.writable()).await {
                    Either::Left(ready) | Either::Right(ready) => ready,
                }
            };
            let waited = polyloop::timeout_at(deadline, ready).await;
            waited.map_err(|_| io::Error::new(TimedOut, self.progress("no answer")))??;
        }
        // The server sends back everything that came before the end, and then an end of its own.
        self.stream.shutdown(Shutdown::Write)?;
        let mut byte = [0];
        let ended = polyloop::timeout(PATIENCE, self.stream.read(&mut byte));
        match ended.await.map_err(|_| io::Error::new(TimedOut, self.progress("not closed")))?? {
            0 => Ok(()),
            _ => Err(io::Error::new(InvalidData, self.progress("more came back than was sent"))),
        }
    }

    /// Returns the position in the sequence up to which the window allows to send.
    fn may_send_up_to(&self) -> u64 {
        let size = self.run.message_bytes;
        if self.is_over {
            // The message that was begun is completed.
            return self.n_sent.next_multiple_of(size);
        }
        self.n_received / size * size + self.run.window_bytes
    }

    /// Sends what the window allows and the socket takes.
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
            let n_begun = (self.n_sent + n as u64).div_ceil(size) - self.n_sent.div_ceil(size);
            self.begun.extend((0..n_begun).map(|_| now));
            self.n_sent += n as u64;
        }
        Ok(())
    }

    /// Receives once and verifies what came. False if nothing was there.
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
        for begun in self.begun.drain(..n_complete as usize) {
            let latency_ns = (now - begun).as_nanos() as u64;
            latencies_ns.record(latency_ns).expect("the histogram grows with what is recorded");
        }
        Ok(true)
    }

    fn progress(&self, what: &str) -> String {
        format!("{what} after {} of {} bytes", self.n_received, self.n_sent)
    }
}

/// Shows a line a second.
async fn show_progress(run: Rc<Run>, started: Instant) {
    let mut ticks = polyloop::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut n_before = 0;
    loop {
        ticks.tick().await;
        let n_messages = run.n_messages.get();
        let p99_us = run.latencies_ns.borrow().value_at_quantile(0.99) as f64 / 1e3;
        eprintln!(
            "{:3.0} s  {:>9} messages/s  p99 so far {p99_us:.1} µs",
            started.elapsed().as_secs_f64(),
            n_messages - n_before,
        );
        n_before = n_messages;
    }
}

/// Says what an error belongs to.
fn named(error: io::Error, what: String) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
