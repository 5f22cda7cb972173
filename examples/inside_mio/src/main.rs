//! polyloop inside a program with a mio loop.
//!
//! ```text
//! cargo run -p polyloop-inside-mio
//! ```
//! mio waits for the host's listener and for polyloop's descriptor, and the host calls `turn` when the
//! latter is readable. A polyloop task connects to the host as a client. mio is edge-triggered: a turn that
//! leaves work to do makes the descriptor readable again.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use polyloop::Runtime;
use polyloop::net::TcpStream;

/// How long a turn may run polyloop's tasks before it returns to the host.
const BUDGET: Duration = Duration::from_millis(2);

const LISTENER: Token = Token(0);
const POLYLOOP: Token = Token(1);

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    let runtime = Runtime::new()?;
    let fd = runtime.pollable_fd()?.as_raw_fd();
    poll.registry().register(&mut SourceFd(&fd), POLYLOOP, Interest::READABLE)?;
    let client = runtime.spawn(visit(listener.local_addr()?));

    let mut events = Events::with_capacity(64);
    let mut n_turns = 0;
    while !client.is_finished() {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                greet(&listener)?;
            } else {
                runtime.turn(Some(Duration::ZERO), BUDGET)?;
                n_turns += 1;
            }
        }
    }
    let greetings = runtime.block_on(client)?.map_err(io::Error::other)??;
    // If stdout is closed, this returns an error, where `println!` panics.
    writeln!(io::stdout(), "polyloop heard {greetings:?} in {n_turns} turns")
}

/// Accepts the waiting connections and sends each a greeting.
fn greet(listener: &TcpListener) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => stream.write_all(b"hello from mio")?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Connects three times, with pauses, and returns the greetings.
async fn visit(address: SocketAddr) -> io::Result<Vec<String>> {
    let mut greetings = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(address).await?;
        let (mut greeting, mut buffer) = (String::new(), [0; 64]);
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => greeting.push_str(&String::from_utf8_lossy(&buffer[..n])),
            }
        }
        greetings.push(greeting);
        polyloop::sleep(Duration::from_millis(5)).await;
    }
    Ok(greetings)
}
