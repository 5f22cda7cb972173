//! polyloop inside a tokio program: one thread, two runtimes, neither blocks the other.
//!
//! ```text
//! cargo run -p polyloop-inside-tokio
//! ```
//! tokio drives. It watches polyloop's descriptor as it would a socket, and turns the loop when
//! that is readable. A server on polyloop then talks to a client on tokio.

use std::io::{self, Write};
use std::time::Duration;

use polyloop::{JoinHandle, Runtime};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// How long polyloop's tasks may run before those of tokio have their turn.
const BUDGET: Duration = Duration::from_millis(2);

fn main() -> io::Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let polyloop = Runtime::new()?;
    let listener = polyloop::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = polyloop.spawn(serve_one(listener));

    tokio.block_on(async {
        let client = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let mut answer = String::new();
            stream.write_all(b"hello from tokio").await?;
            stream.shutdown().await?;
            stream.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        });
        let n_turns = drive(&polyloop, &server).await?;
        // Unlike `println!`, this is an error rather than a panic if stdout is closed.
        writeln!(io::stdout(), "polyloop answered {:?} in {n_turns} turns", client.await??)
    })
}

/// Runs polyloop from a task of tokio until `task` is over. Returns the number of turns.
async fn drive<T>(runtime: &Runtime, task: &JoinHandle<T>) -> io::Result<usize> {
    // What replaces this asks the caller to swear that the descriptor stays the same and open,
    // which a borrow of the runtime does by itself.
    #[allow(deprecated, reason = "its replacement has the caller swear what a borrow guarantees")]
    let fd = AsyncFd::with_interest(runtime.pollable_fd()?, Interest::READABLE)?;
    let mut n_turns = 0;
    while !task.is_finished() {
        // First, so that what happens during the turn is heard of.
        fd.readable().await?.clear_ready();
        runtime.turn(Some(Duration::ZERO), BUDGET)?;
        n_turns += 1;
    }
    Ok(n_turns)
}

/// Echoes one connection, a little later.
async fn serve_one(listener: polyloop::net::TcpListener) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let mut buffer = [0; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        polyloop::sleep(Duration::from_millis(5)).await;
        stream.write_all(&buffer[..n]).await?;
    }
}
