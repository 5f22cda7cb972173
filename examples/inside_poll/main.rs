//! polyloop inside a program with a poll(2) loop.
//!
//! ```text
//! cargo run --example inside_poll
//! ```
//! The host is like a GUI toolkit, a game or a daemon: it owns the thread, waits in poll(2) for its
//! descriptors (a pipe to which a thread writes lines), and does not use futures. With one more
//! descriptor in its list, and one call when that is readable, an echo server and a clock run on the
//! same thread.

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

/// How long a turn may run polyloop's tasks before it returns to the host.
const BUDGET: Duration = Duration::from_millis(2);

fn main() -> io::Result<()> {
    match run() {
        // The reader has closed the pipe, as `head` does after ten lines.
        Err(error) if error.kind() == BrokenPipe => Ok(()),
        ended => ended,
    }
}

fn run() -> io::Result<()> {
    // select and poll have no single descriptor to watch.
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

/// Prints a line. If stdout is closed, this returns an error, where `println!` panics.
fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Starts the echo server and the clock.
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
            // The host gets the same error and ends the program.
            if print(format_args!("polyloop: tick {number}")).is_err() {
                return;
            }
        }
    });
    Ok(address)
}

/// The host's loop: waits for its pipe and for polyloop's descriptor. Returns the number of turns.
fn host(runtime: &Runtime, lines: io::PipeReader) -> io::Result<usize> {
    let mut lines = BufReader::new(lines);
    let mut n_turns = 0;
    loop {
        let mut fds = [
            PollFd::new(lines.get_ref().as_fd(), PollFlags::POLLIN),
            PollFd::new(runtime.pollable_fd()?, PollFlags::POLLIN),
        ];
        poll(&mut fds, PollTimeout::NONE)?;
        let has_line = fds[0].any().unwrap_or(false);
        n_turns += 1;
        // A turn without events costs one system call, so it runs unconditionally.
        runtime.turn(Some(Duration::ZERO), BUDGET)?;
        if has_line {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                return Ok(n_turns);
            }
            print(format_args!("host: {}", line.trim_end()))?;
        }
    }
}

/// Starts a thread that uses the echo server, and writes the answers to a pipe for the host.
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
