//! polyloop's echo server.

use std::cell::RefCell;
use std::io;
use std::net;
use std::rc::Rc;

use polyloop::net::{TcpListener, TcpStream};

use super::bare::BUFFER_BYTES;

/// Accepts indefinitely, with a task for each connection.
pub(crate) async fn accept(listener: net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    // One buffer for all connections, borrowed only while data is read and written.
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER_BYTES]));
    loop {
        let (stream, _) = listener.accept().await?;
        polyloop::spawn(echo(stream, Rc::clone(&buffer)));
    }
}

async fn echo(stream: TcpStream, buffer: Rc<RefCell<Vec<u8>>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        stream.readable().await?;
        let rest = {
            let mut buffer = buffer.borrow_mut();
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
