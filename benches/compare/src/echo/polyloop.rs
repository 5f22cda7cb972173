//! The echo server on polyloop, from its README. `ours` has the one with a shared buffer.

use std::io;
use std::net;

use polyloop::net::{TcpListener, TcpStream};

use super::BUFFER_BYTES;

/// Accepts indefinitely, with a task and a buffer for each connection.
pub(super) async fn accept(listener: net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        polyloop::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}
