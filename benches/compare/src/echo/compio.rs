//! The echo server on compio, with the calls of its `net` example.

use std::io;
use std::net;

use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use compio::runtime::Runtime;

use super::BUFFER_BYTES;

pub(super) fn serve(listener: net::TcpListener) -> io::Result<()> {
    Runtime::new()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            compio::runtime::spawn(echo(stream)).detach();
        }
    })
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buf: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    let mut res;
    loop {
        BufResult(res, buf) = stream.read(buf).await;
        if res? == 0 {
            return Ok(());
        }
        let sent;
        BufResult(sent, buf) = stream.write_all(buf).await;
        sent?;
        buf.clear();
    }
}
