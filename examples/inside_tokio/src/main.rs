//! polyloop inside a tokio program: two runtimes on one thread.
//!
//! ```text
//! cargo run -p polyloop-inside-tokio
//! ```
//! A tokio task watches polyloop's descriptor as it would a socket, and calls `turn` when the descriptor
//! is readable. A client on tokio uses a server on polyloop.

use std::io::{self, Write};
use std::time::Duration;

use polyloop::{JoinHandle, Runtime};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// How long a turn may run polyloop's tasks before tokio's tasks run again.
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
        // If stdout is closed, this returns an error, where `println!` panics.
        writeln!(io::stdout(), "polyloop answered {:?} in {n_turns} turns", client.await??)
    })
}

/// Runs polyloop from a tokio task until `task` has finished. Returns the number of turns.
async fn drive<T>(runtime: &Runtime, task: &JoinHandle<T>) -> io::Result<usize> {
    // The replacement is unsafe: the caller promises that the descriptor stays open, which the borrow of
    // the runtime guarantees here.
    #[allow(deprecated, reason = "the borrow guarantees what the replacement has callers promise")]
    let fd = AsyncFd::with_interest(runtime.pollable_fd()?, Interest::READABLE)?;
    let mut n_turns = 0;
    while !task.is_finished() {
        // Before the turn, so that events during the turn are not lost.
        fd.readable().await?.clear_ready();
        runtime.turn(Some(Duration::ZERO), BUDGET)?;
        n_turns += 1;
    }
    Ok(n_turns)
}

/// Echoes one connection, with a delay.
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
