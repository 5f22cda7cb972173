//! Accepting, for all listeners.

use std::io;
use std::os::fd::AsFd;

use socket2::{SockAddr, SockRef, Socket};

/// The aborted connections that one try passes over.
///
/// Each of them takes its place out of the queue, so the next one may be a good one; but a system
/// that said so again and again would keep the loop from everything else.
const ABORTED_PER_TRY: usize = 64;

/// Takes a connection out of the queue: non-blocking, close-on-exec, in one system call where the
/// system has it.
pub(crate) fn accept<T: AsFd>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    let mut result = accept_one(listener);
    for _ in 1..ABORTED_PER_TRY {
        match result {
            // The client gave up before it was its turn: nobody is there to be told.
            Err(ref error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            _ => break,
        }
        result = accept_one(listener);
    }
    result
}

#[cfg(not(target_vendor = "apple"))]
fn accept_one<T: AsFd>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    SockRef::from(listener).accept4(polyloop_reactor::socket::ACCEPT_FLAGS)
}

#[cfg(target_vendor = "apple")]
fn accept_one<T: AsFd>(listener: &T) -> io::Result<(Socket, SockAddr)> {
    // This also turns `SIGPIPE` off for the connection.
    let (socket, addr) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, addr))
}
