//! polyloop inside a program that has a mio loop.
//!
//! ```text
//! cargo run -p polyloop-inside-mio
//! ```
//! mio waits, for a listener of the host's and for polyloop's descriptor, and the loop is turned when
//! that is readable. A task of polyloop then talks to the host as any client would. mio reports edges:
//! a turn that leaves something to do makes the descriptor readable anew.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use polyloop::Runtime;
use polyloop::net::TcpStream;

/// How long polyloop's tasks may run before the host has its turn.
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
    // Unlike `println!`, this is an error rather than a panic if stdout is closed.
    writeln!(io::stdout(), "polyloop heard {greetings:?} in {n_turns} turns")
}

/// Greets those who have connected to the host.
fn greet(listener: &TcpListener) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => stream.write_all(b"hello from mio")?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Connects three times, with pauses, and returns what the host said.
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
