//! polyloop inside a program that has a poll(2) loop of its own.
//!
//! ```text
//! cargo run --example inside_poll
//! ```
//! The host here is what a GUI toolkit, a game or an old daemon is: it owns the thread, waits in
//! poll(2) for descriptors that it cares for (a pipe, on which a thread writes lines), and has no
//! idea of futures. One more descriptor in its list, and one call when that is readable, and an echo
//! server and a clock run beside it, asleep when there is nothing to do.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, ErrorKind::BrokenPipe, Read, Write};
use std::net;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use polyloop::io::copy;
use polyloop::net::{Server, TcpStream};
use polyloop::time::interval;
use polyloop::{Backend, Runtime};

/// How long polyloop's tasks may run before the host has its turn.
const BUDGET: Duration = Duration::from_millis(2);

fn main() -> io::Result<()> {
    match run() {
        // The reader of stdout has seen enough, as `head` has after ten lines.
        Err(error) if error.kind() == BrokenPipe => Ok(()),
        ended => ended,
    }
}

fn run() -> io::Result<()> {
    // select and poll have no descriptor that a host could watch.
    let available = Backend::available().iter().copied();
    let mut usable = available.filter(|b| !matches!(b, Backend::Select | Backend::Poll));
    let Some(backend) = usable.next() else {
        return Err(io::Error::other("this system has neither epoll nor kqueue"));
    };
    let runtime = Runtime::builder().backend(backend).build()?;
    let address = runtime.enter(start_services)?;
    let lines = start_client(address)?;
    let n_turns = host(&runtime, lines)?;
    print(format_args!("host: done after {n_turns} turns"))
}

/// Prints a line. Unlike `println!`, this is an error rather than a panic if stdout is closed.
fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Starts what runs beside the host: an echo server and a clock.
fn start_services() -> io::Result<net::SocketAddr> {
    let server = Server::bind("127.0.0.1:0")?;
    let address = server.local_addrs()[0];
    polyloop::spawn(server.serve(async |stream: TcpStream, _session| {
        copy(&stream, &stream).await?;
        Ok(())
    }));
    polyloop::spawn(async {
        let mut beat = interval(Duration::from_millis(20));
        for number in 0.. {
            beat.tick().await;
            // The host meets the same error, and ends the program.
            if print(format_args!("polyloop: tick {number}")).is_err() {
                return;
            }
        }
    });
    Ok(address)
}

/// Is the host's loop: waits for its own descriptor and for polyloop's. Returns how often it woke.
fn host(runtime: &Runtime, lines: io::PipeReader) -> io::Result<usize> {
    let mut lines = BufReader::new(lines);
    let mut n_turns = 0;
    loop {
        let mut fds = [
            PollFd::new(lines.get_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(runtime.pollable_fd()?, PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        let own = fds[0].any().unwrap_or(false);
        n_turns += 1;
        // A turn that finds nothing costs one system call, so it need not be spared.
        runtime.turn(Some(Duration::ZERO), BUDGET)?;
        if own {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(n_turns);
            }
            print(format_args!("host: {}", line.trim_end()))?;
        }
    }
}

/// Starts a thread that talks to the echo server and tells the host, over a pipe, what came back.
fn start_client(address: net::SocketAddr) -> io::Result<io::PipeReader> {
    let (reader, mut writer) = io::pipe()?;
    thread::spawn(move || -> io::Result<()> {
        let mut stream = net::TcpStream::connect(address)?;
        for word in ["one", "two", "three"] {
            stream.write_all(word.as_bytes())?;
            let mut echo = vec![0; word.len()];
            stream.read_exact(&mut echo)?;
            writeln!(writer, "the server says {}", String::from_utf8_lossy(&echo))?;
            thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    });
    Ok(reader)
}
