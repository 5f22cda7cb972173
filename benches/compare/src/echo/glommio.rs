//! The echo server on glommio, from its `echo` example.

use std::io;
use std::net;
use std::os::fd::{FromRawFd, IntoRawFd};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use glommio::LocalExecutorBuilder;
use glommio::net::{TcpListener, TcpStream};

use super::BUFFER_BYTES;

pub(super) fn serve(listener: net::TcpListener) -> io::Result<()> {
    let executor = LocalExecutorBuilder::default().make().map_err(io::Error::from)?;
    executor.run(async {
        // SAFETY: the number is that of an open listener, which `into_raw_fd` has given up.
        let listener = unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) };
        loop {
            let stream = listener.accept().await?;
            glommio::spawn_local(echo(stream)).detach();
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
