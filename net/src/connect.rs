//! The outcome of a connection attempt in progress, for all kinds of sockets.

use std::io;
use std::os::fd::AsFd;

use polyloop_reactor::Direction;
use socket2::SockRef;

use crate::AsyncFd;

/// Waits until a connection attempt succeeds or fails.
pub(crate) async fn outcome<T: AsFd + Send + Sync + 'static>(fd: &AsyncFd<T>) -> io::Result<()> {
    fd.async_io(Direction::Write, try_outcome).await
}

/// Returns the outcome of a connection attempt, or `WouldBlock` while it is in progress.
///
/// A socket with neither a pending error nor a peer is still connecting.
fn try_outcome<T: AsFd>(socket: &T) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        result => result.map(drop),
    }
}
