//! The echo server on tokio, from its front page, and one whose connections share a buffer.

use std::io;
use std::net;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::BUFFER_BYTES;

pub(super) fn serve(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf = vec![0; BUFFER_BYTES];
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..n]).await?;
    }
}

/// Serves with the same calls as polyloop's server with one buffer.
pub(super) fn serve_with_one_buffer(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let buffer = Arc::new(Mutex::new(vec![0; BUFFER_BYTES]));
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo_through(stream, Arc::clone(&buffer)));
        }
    })
}

async fn echo_through(mut stream: TcpStream, buffer: Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        stream.readable().await?;
        let rest = {
            let mut buffer = buffer.lock().expect("no server panics");
            let received = match stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => &buffer[..n],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            let n_sent = match stream.try_write(received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                sent => sent?,
            };
            received[n_sent..].to_vec()
        };
        if !rest.is_empty() {
            stream.write_all(&rest).await?;
        }
    }
}
