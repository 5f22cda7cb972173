//! Connecting to a Unix listener.

use std::future::poll_fn;
use std::io;
use std::path::Path;

use polyloop_executor::poll_proceed;
use polyloop_reactor::socket::is_in_progress;
use socket2::{Domain, Socket, Type};

use super::address::address;
use crate::AsyncFd;
use crate::backoff::Backoff;
use crate::connect::outcome;

/// Connects a new non-blocking socket to the listener at `path`.
pub(super) async fn connect(socket_type: Type, path: &Path) -> io::Result<Socket> {
    // Takes from the budget, since an attempt that completes at once would never yield.
    poll_fn(poll_proceed).await;
    let addr = address(path)?;
    let socket = Socket::new(Domain::UNIX, socket_type, None)?;
    socket.set_nonblocking(true)?;
    let mut backoff = Backoff::FULL_QUEUE;
    loop {
        match socket.connect(&addr) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Linux does not report when the queue has room again.
                backoff.wait().await;
            }
            Err(error) if is_in_progress(&error) => break,
            Err(error) => return Err(error),
        }
    }
    let socket = AsyncFd::from_nonblocking(socket);
    outcome(&socket).await?;
    socket.into_inner().or_else(|socket| socket.get_ref().try_clone())
}
