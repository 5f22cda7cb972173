//! Connecting within one host.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::time::Duration;

use polyloop_executor::{poll_proceed, sleep};
use polyloop_reactor::Direction;
use polyloop_reactor::socket::connect_goes_on;
use socket2::{Domain, Socket, Type};

use super::address;
use crate::AsyncFd;

/// How long to wait before a listener whose queue is full is asked again.
///
/// Linux tells nobody when a place becomes free, so it has to be tried; a listener that is at work
/// accepts within a millisecond.
const FULL_QUEUE_REST: Duration = Duration::from_millis(1);

/// The longest of these waits, each of which is twice the last.
const FULL_QUEUE_REST_MAX: Duration = Duration::from_millis(64);

/// Connects a new non-blocking socket to the listener at `path`.
pub(super) async fn connect(socket_type: Type, path: &Path) -> io::Result<Socket> {
    // It may fail or succeed at once, and a loop around it would never yield.
    poll_fn(poll_proceed).await;
    let addr = address(path)?;
    let socket = Socket::new(Domain::UNIX, socket_type, None)?;
    socket.set_nonblocking(true)?;
    let mut rest = FULL_QUEUE_REST;
    loop {
        match socket.connect(&addr) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(rest).await;
                rest = FULL_QUEUE_REST_MAX.min(rest * 2);
            }
            Err(error) if connect_goes_on(&error) => break,
            Err(error) => return Err(error),
        }
    }
    let socket = AsyncFd::from_nonblocking(socket);
    let decided = |socket: &Socket| match socket.take_error()? {
        Some(error) => Err(error),
        None => match socket.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result.map(drop),
        },
    };
    socket.async_io(Direction::Write, decided).await?;
    socket.into_inner().or_else(|socket| socket.get_ref().try_clone())
}
