//! One small server under the five I/O models, compared in a table.
//!
//! ```text
//! cargo run --release --example five_io_models -- [--backend NAME] [--requests N] [--pause-us N]
//! ```
//!
//! The server has four datagram sockets and echoes each datagram. The client sends one request at a
//! time, to one socket after another, with a pause in between, because most servers mostly wait. The
//! client is the same for all models; they differ in how the server waits for four sockets at once:
//!
//! 1. *Blocking*: one thread per socket, each blocked in a receive call.
//! 2. *Non-blocking*: one thread tries all sockets in turn, in a busy loop.
//! 3. *Multiplexing*: one thread waits for all sockets with a selector, then reads the ready ones.
//! 4. *Signal-driven*: the kernel sends SIGIO when a datagram arrives; one thread waits for the signal.
//! 5. *Asynchronous*: one thread submits receives in advance, and the kernel reports each one that is
//!    complete; the call that sends an answer also submits the next receive (io_uring).
//!
//! The table counts the server's system calls to wait, receive and send. CPU time is that of the
//! server's threads; latency is measured by the client.

use std::fmt::Display;
use std::io::ErrorKind::{BrokenPipe, WouldBlock};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{self, ExitCode};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use nix::sys::signal::{SigSet, Signal};
use polyloop::Backend;
use polyloop::selectors::{Interest, KeyedSelector, Mode, SystemCalls};
use polyloop_yardstick::{clock::thread_time, ring::Ring, sigio};

const N_SOCKETS: usize = 4;
const MESSAGE_BYTES: usize = 64;

/// How long the client waits for an answer. The loopback loses nothing, so a timeout is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const HELP: &str = "\
Compares the five I/O models

Usage: five_io_models [OPTIONS]

Options:
      --backend <NAME>  For multiplexing: select, poll, epoll or kqueue; the default is
                        $POLYLOOP_BACKEND, or else the best backend that works
      --requests <N>    How many requests each model serves [default: 2000]
      --pause-us <N>    How long the client pauses between two requests, in microseconds [default: 200]
  -h, --help            Print help
";

struct Arguments {
    backend: Option<Backend>,
    requests: u32,
    pause: Duration,
}

impl Arguments {
    fn parse() -> Result<Arguments, lexopt::Error> {
        let mut parsed =
            Arguments { backend: None, requests: 2_000, pause: Duration::from_micros(200) };
        let mut options = lexopt::Parser::from_env();
        while let Some(option) = options.next()? {
            match option {
                Long("backend") => parsed.backend = Some(options.value()?.parse()?),
                Long("requests") => parsed.requests = options.value()?.parse_with(positive)?,
                Long("pause-us") => {
                    // 32 bits are enough for an hour.
                    let micros: u32 = options.value()?.parse()?;
                    parsed.pause = Duration::from_micros(micros.into());
                }
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

fn main() -> ExitCode {
    let arguments = Arguments::parse().unwrap_or_else(|error| exit_with_usage(error));
    match compare(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does after ten lines.
        Err(error) if error.kind() == BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

fn print_help() -> ! {
    // A closed stdout is no error here.
    io::stdout().write_all(HELP.as_bytes()).ok();
    process::exit(0)
}

fn exit_with_usage(error: impl Display) -> ! {
    complain(format_args!(
        "{error}\n\nUsage: five_io_models [OPTIONS]\nTry '--help' for the options."
    ));
    process::exit(2)
}

/// Writes a line to stderr. Unlike `eprintln!`, it does not panic if that fails.
fn complain(what: impl Display) {
    writeln!(io::stderr(), "five_io_models: {what}").ok();
}

fn compare(arguments: &Arguments) -> io::Result<()> {
    // Threads inherit the signal mask. SIGIO would end the process if a thread did not block it.
    sigio_alone().thread_block()?;
    let backend = arguments.backend;
    let Arguments { requests, pause, .. } = arguments;
    let mut out = io::stdout();
    writeln!(
        out,
        "{requests} requests of {MESSAGE_BYTES} bytes to {N_SOCKETS} sockets, one at a time, \
         {pause:?} apart\n"
    )?;
    writeln!(
        out,
        "{:<16}{:<21}{:>9}{:>13}{:>12}{:>12}{:>12}",
        "model", "by", "calls", "per request", "CPU time", "p50", "p99"
    )?;
    type Serve = Box<dyn FnOnce(Vec<UdpSocket>) -> io::Result<Served> + Send>;
    let models: [(&str, Serve); 5] = [
        ("blocking", Box::new(block)),
        ("non-blocking", Box::new(try_all)),
        ("multiplexing", Box::new(move |sockets| multiplex(sockets, backend))),
        ("signal-driven", Box::new(wait_for_signals)),
        ("asynchronous", Box::new(complete)),
    ];
    for (name, serve) in models {
        let (served, latency) = run(arguments, serve)?;
        let Served { by, n_calls, cpu } = match served {
            Ok(served) => served,
            Err(error) => {
                writeln!(out, "{name:<16}not here: {error}")?;
                continue;
            }
        };
        let per_request = n_calls as f64 / f64::from(*requests);
        let micros = |percent| at_percent(&latency, percent).as_nanos() as f64 / 1_000.0;
        writeln!(
            out,
            "{name:<16}{by:<21}{n_calls:>9}{per_request:>13.2}{:>9.1} ms{:>9.1} µs{:>9.1} µs",
            cpu.as_secs_f64() * 1_000.0,
            micros(50),
            micros(99)
        )?;
    }
    Ok(())
}

/// Returns the given percentile of the latencies.
fn at_percent(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

/// A server's report.
struct Served {
    /// The mechanism that it waited with.
    by: String,
    n_calls: u64,
    cpu: Duration,
}

/// Runs a server in a new thread and the client in this one.
///
/// The outer error is the client's; the inner one means that the system lacks the server's model.
fn run(
    arguments: &Arguments,
    serve: impl FnOnce(Vec<UdpSocket>) -> io::Result<Served> + Send,
) -> io::Result<(io::Result<Served>, Vec<Duration>)> {
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..N_SOCKETS {
        let (client, server) = connected_pair()?;
        client.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        clients.push(client);
        servers.push(server);
    }
    let (done, is_done) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || done.send(serve(servers)).expect("the client waits for it"));
        let latencies = send_requests(&clients, arguments);
        for client in &clients {
            // This fails if the server has already ended.
            client.send(&[]).ok();
        }
        let served = is_done.recv().expect("the server sends before it ends");
        // If the server failed, the client's error is only a consequence.
        if served.is_ok() { Ok((served, latencies?)) } else { Ok((served, Vec::new())) }
    })
}

/// Sends requests to one socket after another. Returns the latencies in ascending order.
fn send_requests(clients: &[UdpSocket], arguments: &Arguments) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for number in 0..arguments.requests {
        let client = &clients[number as usize % clients.len()];
        let mut request = [0; MESSAGE_BYTES];
        request[..4].copy_from_slice(&number.to_be_bytes());
        let mut answer = [0; MESSAGE_BYTES];
        let start = Instant::now();
        client.send(&request)?;
        let n_bytes = client.recv(&mut answer)?;
        latencies.push(start.elapsed());
        if answer[..n_bytes] != request {
            return Err(io::Error::other(format!("wrong answer to request {number}")));
        }
        thread::sleep(arguments.pause);
    }
    latencies.sort_unstable();
    Ok(latencies)
}

fn connected_pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let (one, other) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    one.connect(other.local_addr()?)?;
    other.connect(one.local_addr()?)?;
    Ok((one, other))
}

/// Model 1: one thread per socket. Two calls per request.
fn block(sockets: Vec<UdpSocket>) -> io::Result<Served> {
    let by = format!("{} threads", sockets.len());
    let threads = sockets.into_iter().map(|socket| {
        thread::spawn(move || {
            let mut server = Echo::new(socket);
            while !server.has_ended {
                server.answer_one()?;
            }
            Ok((server.n_calls, thread_time()))
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut served = Served { by, n_calls: 0, cpu: Duration::ZERO };
    for thread in threads {
        let result: io::Result<(u64, Duration)> = thread.join().expect("no thread panics");
        let (n_calls, cpu) = result?;
        served.n_calls += n_calls;
        served.cpu += cpu;
    }
    Ok(served)
}

/// Model 2: one thread that never sleeps. The lowest latency, for a whole processor.
fn try_all(sockets: Vec<UdpSocket>) -> io::Result<Served> {
    let mut servers = non_blocking(sockets)?;
    while servers.iter().any(|server| !server.has_ended) {
        for server in servers.iter_mut().filter(|server| !server.has_ended) {
            server.answer_one()?;
        }
    }
    Ok(Served::by("a busy loop", total_calls(&servers)))
}

/// Model 3: one thread and a selector. Three calls per request, or fewer if several arrive at once.
fn multiplex(sockets: Vec<UdpSocket>, backend: Option<Backend>) -> io::Result<Served> {
    let mut selector = match backend {
        Some(backend) => KeyedSelector::open(backend)?,
        None => KeyedSelector::new()?,
    };
    let mut servers = non_blocking(sockets)?;
    for (index, server) in servers.iter().enumerate() {
        selector.register(&server.socket, Interest::READABLE, Mode::Level, index)?;
    }
    while !selector.is_empty() {
        let ready: Vec<usize> = selector.select(None)?.map(|(key, _)| *key.data()).collect();
        for index in ready {
            servers[index].answer_one()?;
            if servers[index].has_ended {
                selector.unregister(&servers[index].socket)?;
            }
        }
    }
    let SystemCalls { waits, controls } = selector.system_calls();
    let by = selector.backend().to_string();
    Ok(Served::by(&by, total_calls(&servers) + waits + controls))
}

/// Model 4: one thread that waits for a signal. The signal does not name the socket or the number of
/// datagrams, so the server reads all sockets until they are empty.
fn wait_for_signals(sockets: Vec<UdpSocket>) -> io::Result<Served> {
    let mut servers = non_blocking(sockets)?;
    for server in &servers {
        sigio::send_to_this_process(server.socket.as_fd())?;
    }
    let signals = sigio_alone();
    let mut n_waits = 0;
    // The first pass receives datagrams that arrived before signals were enabled.
    loop {
        for server in &mut servers {
            while !server.has_ended && server.answer_one()? {}
        }
        if servers.iter().all(|server| server.has_ended) {
            return Ok(Served::by("SIGIO, sigwait", total_calls(&servers) + n_waits));
        }
        n_waits += 1;
        signals.wait()?;
    }
}

/// Model 5: one thread and a completion ring. One system call sends the answer, submits the next
/// receive and waits.
fn complete(sockets: Vec<UdpSocket>) -> io::Result<Served> {
    let mut ring = Ring::new(sockets.len())?;
    let mut n_open = sockets.len();
    for socket in sockets {
        let number = ring.add(socket, 2_048);
        ring.receive(number);
    }
    let mut received = Vec::new();
    while n_open > 0 {
        ring.turn(&mut received)?;
        for &(number, n_bytes) in &received {
            match n_bytes {
                0 => n_open -= 1,
                _ => ring.answer(number, n_bytes),
            }
        }
    }
    Ok(Served::by("io_uring", ring.n_enters()))
}

impl Served {
    /// Makes the report of a server that runs in the current thread only.
    fn by(by: &str, n_calls: u64) -> Served {
        Served { by: by.to_owned(), n_calls, cpu: thread_time() }
    }
}

/// One socket of the server, and its number of system calls.
struct Echo {
    socket: UdpSocket,
    n_calls: u64,
    /// Set by an empty datagram.
    has_ended: bool,
}

impl Echo {
    fn new(socket: UdpSocket) -> Echo {
        Echo { socket, n_calls: 0, has_ended: false }
    }

    /// Receives a datagram and sends it back. Returns `false` if the receive would block.
    fn answer_one(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 2_048];
        self.n_calls += 1;
        let n_bytes = match self.socket.recv(&mut buffer) {
            Ok(0) => {
                self.has_ended = true;
                return Ok(true);
            }
            Ok(n_bytes) => n_bytes,
            Err(error) if error.kind() == WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        self.n_calls += 1;
        self.socket.send(&buffer[..n_bytes])?;
        Ok(true)
    }
}

fn non_blocking(sockets: Vec<UdpSocket>) -> io::Result<Vec<Echo>> {
    let servers = sockets.into_iter().map(|socket| {
        socket.set_nonblocking(true)?;
        Ok(Echo::new(socket))
    });
    servers.collect()
}

fn total_calls(servers: &[Echo]) -> u64 {
    servers.iter().map(|server| server.n_calls).sum()
}

fn sigio_alone() -> SigSet {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGIO);
    signals
}
