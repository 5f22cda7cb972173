//! The servers, by name.

use std::io;
use std::time::Duration;

use polyloop::{Backend, Runtime};

use crate::bare;
use crate::ours::accept;
use crate::report::Row;
use crate::server::{Server, listener};

/// The servers to compare; ratios refer to the first.
pub(crate) const SERVERS: &[&str] =
    &["bare edge", "bare level", "polyloop epoll", "polyloop poll", "polyloop select"];

/// How long the spinning server polls before it sleeps: longer than a client takes to answer.
const SPIN: Duration = Duration::from_micros(100);

/// Starts a server in a separate process.
pub(crate) fn start(name: &str) -> io::Result<Server> {
    Server::start(&["serve", name])
}

/// Reports whether a server supports the row's number of connections.
pub(crate) fn has_row(name: &str, row: Row) -> bool {
    name != "polyloop select" || row.load().n_connections < 1_000
}

/// Runs a server until it is killed. Its first line is its address.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let listener = listener()?;
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
        _ => Err(io::Error::other(format!("there is no server {name:?}"))),
    }
}
