//! The servers, by name.

use std::cell::RefCell;
use std::io;
use std::net;
use std::rc::Rc;
use std::time::Duration;

use polyloop::net::{TcpListener, TcpStream};
use polyloop::{Backend, Runtime};

use crate::bare;

/// The servers that are compared; the first is the yardstick.
pub(crate) const SERVERS: &[&str] =
    &["bare edge", "bare level", "polyloop epoll", "polyloop poll", "polyloop select"];

/// The servers that answer one client at a time: how fast is waking up?
pub(crate) const ANSWERERS: &[&str] = &["bare edge", "polyloop epoll", "polyloop spin"];

/// How long the spinning server looks before it sleeps: longer than a client takes to answer.
const SPIN: Duration = Duration::from_micros(100);

/// Is a server, until it is killed. Its first line says where it listens.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let listener = crate::listener()?;
    println!("{}", listener.local_addr()?);
    match name.split_once(' ') {
        Some(("bare", mode)) => bare::serve(listener, mode == "edge"),
        Some(("polyloop", "spin")) => {
            let runtime = Runtime::builder().spin(SPIN).build()?;
            runtime.block_on(accept(listener))?
        }
        Some(("polyloop", backend)) => {
            let backend: Backend = backend.parse().map_err(io::Error::other)?;
            Runtime::builder().backend(backend).build()?.block_on(accept(listener))?
        }
        _ => Err(io::Error::other(format!("no server is called {name:?}"))),
    }
}

async fn accept(listener: net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    // One buffer for all connections, as in the bare loops.
    let buffer = Rc::new(RefCell::new(vec![0; bare::BUFFER_BYTES]));
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
