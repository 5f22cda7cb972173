//! The two directions of a connection, apart.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use crate::byte_stream::{peeking, reading, writing};
use crate::{AsyncFd, TcpStream};

/// A connection of bytes both ways, which can be split: [`TcpStream`] or
/// [`UnixStream`](crate::UnixStream).
///
/// Sealed: it is implemented for these and for no others.
pub trait Connection: sealed::Connection {}

impl<T: sealed::Connection> Connection for T {}

pub(crate) mod sealed {
    use std::io;
    use std::net::Shutdown;

    use crate::AsyncFd;
    use crate::byte_stream::{TryRead, TryWrite};

    /// What is behind a connection.
    pub trait Connection {
        /// The socket.
        type Io: TryRead + TryWrite;

        /// Lends the socket.
        fn fd(&self) -> &AsyncFd<Self::Io>;

        /// Closes one direction or both.
        fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    }
}

/// Reads from a borrowed connection. Made by `split`, as in [`TcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a, S = TcpStream> {
    stream: &'a S,
}

/// Writes to a borrowed connection. Made by `split`, as in [`TcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a, S = TcpStream> {
    stream: &'a S,
}

/// Reads from a connection that it owns together with its other half. Made by `into_split`, as in
/// [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream> {
    stream: Arc<S>,
}

/// Writes to a connection that it owns together with its other half. Made by `into_split`, as in
/// [`TcpStream::into_split`].
///
/// Dropping it closes the connection for writing, so that the peer learns that no more comes;
/// [`forget`](OwnedWriteHalf::forget) does not.
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Connection = TcpStream> {
    stream: Arc<S>,
    close_on_drop: bool,
}

pub(crate) fn split<S>(stream: &S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf { stream }, WriteHalf { stream })
}

pub(crate) fn into_split<S: Connection>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    (OwnedReadHalf { stream: Arc::clone(&stream) }, OwnedWriteHalf { stream, close_on_drop: true })
}

// By hand: a derived one would ask the connection to be `Clone`.
impl<S> Clone for ReadHalf<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for ReadHalf<'_, S> {}

impl<S> Clone for WriteHalf<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for WriteHalf<'_, S> {}

reading!(ReadHalf<'_, S> where S: Connection);
reading!(OwnedReadHalf<S> where S: Connection);
peeking!(ReadHalf<'_, S> where S: Connection);
peeking!(OwnedReadHalf<S> where S: Connection);
writing!(WriteHalf<'_, S> where S: Connection);
writing!(OwnedWriteHalf<S> where S: Connection);

impl<S: Connection> ReadHalf<'_, S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Lends the whole connection.
    pub fn stream(&self) -> &S {
        self.stream
    }
}

impl<S: Connection> WriteHalf<'_, S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Lends the whole connection.
    pub fn stream(&self) -> &S {
        self.stream
    }

    /// Closes the connection for writing.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self) -> io::Result<()> {
        sealed::Connection::shutdown(self.stream, Shutdown::Write)
    }
}

impl<S: Connection> OwnedReadHalf<S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Lends the whole connection.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Puts the two halves of one connection together again.
    ///
    /// # Errors
    /// Both halves, if they are not of one connection.
    pub fn reunite(self, writer: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Arc::ptr_eq(&self.stream, &writer.stream) {
            return Err(ReuniteError(self, writer));
        }
        writer.forget();
        Ok(Arc::into_inner(self.stream).expect("a connection has two halves, and both were here"))
    }
}

impl<S: Connection> OwnedWriteHalf<S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Lends the whole connection.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Closes the connection for writing.
    ///
    /// # Errors
    /// What the system says.
    pub fn shutdown(&self) -> io::Result<()> {
        sealed::Connection::shutdown(&*self.stream, Shutdown::Write)
    }

    /// Drops the half without closing the connection for writing.
    pub fn forget(mut self) {
        self.close_on_drop = false;
    }
}

impl<S: Connection> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.close_on_drop {
            // It fails only if the connection is broken, which the reading half will hear of.
            let _ = self.shutdown();
        }
    }
}

/// Gives the halves of a TCP connection its addresses.
macro_rules! peer {
    ($half:ty) => {
        impl $half {
            /// Returns the other side's address.
            ///
            /// # Errors
            /// What the system says.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.stream.peer_addr()
            }
        }
    };
}

peer!(ReadHalf<'_>);
peer!(WriteHalf<'_>);
peer!(OwnedReadHalf);
peer!(OwnedWriteHalf);

/// Says that two halves are not of one connection, and gives them back.
pub struct ReuniteError<S: Connection = TcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Connection> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: Connection> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of one connection")
    }
}

impl<S: Connection> Error for ReuniteError<S> {}
