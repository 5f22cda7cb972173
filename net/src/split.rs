//! Splitting a connection into a half for reading and a half for writing.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use crate::byte_stream::{peeking, reading, writing};
use crate::{AsyncFd, TcpStream};

/// A byte stream with two directions: [`TcpStream`] or [`UnixStream`](crate::UnixStream).
///
/// This trait is sealed.
pub trait Connection: sealed::Connection {}

impl<T: sealed::Connection> Connection for T {}

pub(crate) mod sealed {
    use std::io;
    use std::net::Shutdown;

    use crate::AsyncFd;
    use crate::byte_stream::{TryRead, TryWrite};

    /// Gives access to the socket of a connection.
    pub trait Connection {
        /// The socket.
        type Io: TryRead + TryWrite;

        /// Returns the socket.
        fn fd(&self) -> &AsyncFd<Self::Io>;

        /// Shuts down one direction or both.
        fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    }
}

/// Reads from a borrowed connection. Created by [`TcpStream::split`] and
/// [`UnixStream::split`](crate::UnixStream::split).
#[derive(Debug)]
pub struct ReadHalf<'a, S = TcpStream> {
    stream: &'a S,
}

/// Writes to a borrowed connection. Created by [`TcpStream::split`] and
/// [`UnixStream::split`](crate::UnixStream::split).
#[derive(Debug)]
pub struct WriteHalf<'a, S = TcpStream> {
    stream: &'a S,
}

/// Reads from a connection that it shares with an [`OwnedWriteHalf`]. Created by
/// [`TcpStream::into_split`] and [`UnixStream::into_split`](crate::UnixStream::into_split).
#[derive(Debug)]
pub struct OwnedReadHalf<S = TcpStream> {
    stream: Arc<S>,
}

/// Writes to a connection that it shares with an [`OwnedReadHalf`]. Created by
/// [`TcpStream::into_split`] and [`UnixStream::into_split`](crate::UnixStream::into_split).
///
/// Dropping it shuts down the write direction, so that the peer reads the end of the stream. To drop it
/// without that, use [`forget`](OwnedWriteHalf::forget).
///
/// # Examples
/// ```
/// use polyloop::net::UnixStream;
///
/// # polyloop::run(async {
/// let (stream, peer) = UnixStream::pair()?;
/// let (reader, writer) = stream.into_split();
/// let writing = polyloop::spawn(async move { writer.write_all(b"hello").await });
///
/// let mut buf = [0; 8];
/// assert_eq!(peer.read(&mut buf).await?, 5);
/// assert_eq!(peer.read(&mut buf).await?, 0);
/// peer.write_all(b"back").await?;
/// assert_eq!(reader.read(&mut buf).await?, 4);
/// writing.await.unwrap()
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Connection = TcpStream> {
    stream: Arc<S>,
    shutdown_on_drop: bool,
}

pub(crate) fn split<S>(stream: &S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf { stream }, WriteHalf { stream })
}

pub(crate) fn into_split<S: Connection>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    (
        OwnedReadHalf { stream: Arc::clone(&stream) },
        OwnedWriteHalf { stream, shutdown_on_drop: true },
    )
}

// Implemented by hand: the derived ones would require `S: Clone`.
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
}

impl<S: Connection> WriteHalf<'_, S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Shuts down the write direction: the peer reads the end of the stream once it has read what was
    /// written before.
    pub fn shutdown(&self) -> io::Result<()> {
        sealed::Connection::shutdown(self.stream, Shutdown::Write)
    }
}

impl<S: Connection> OwnedReadHalf<S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Reunites the two halves of a connection.
    ///
    /// # Errors
    /// [`ReuniteError`], with both halves, if they belong to different connections.
    pub fn reunite(self, writer: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Arc::ptr_eq(&self.stream, &writer.stream) {
            return Err(ReuniteError(self, writer));
        }
        writer.forget();
        Ok(Arc::into_inner(self.stream).expect("both owners of the connection are here"))
    }
}

impl<S: Connection> OwnedWriteHalf<S> {
    pub(crate) fn fd(&self) -> &AsyncFd<S::Io> {
        self.stream.fd()
    }

    /// Shuts down the write direction: the peer reads the end of the stream once it has read what was
    /// written before.
    pub fn shutdown(&self) -> io::Result<()> {
        sealed::Connection::shutdown(&*self.stream, Shutdown::Write)
    }

    /// Drops this half without shutting down the write direction.
    pub fn forget(mut self) {
        self.shutdown_on_drop = false;
    }
}

impl<S: Connection> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.shutdown_on_drop {
            // Fails only if the connection is broken, which reads from the other half report.
            let _ = self.shutdown();
        }
    }
}

/// Gives a half of a connection access to the whole, as tokio's halves do.
macro_rules! whole {
    ($half:ident $(<$lifetime:lifetime>)?) => {
        impl<S: Connection> AsRef<S> for $half<$($lifetime,)? S> {
            fn as_ref(&self) -> &S {
                &self.stream
            }
        }

        impl $half$(<$lifetime>)? {
            /// Returns the address of this end of the connection.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.stream.local_addr()
            }

            /// Returns the address of the peer.
            ///
            /// # Errors
            /// [`NotConnected`](io::ErrorKind::NotConnected) once the peer has reset the connection.
            pub fn peer_addr(&self) -> io::Result<SocketAddr> {
                self.stream.peer_addr()
            }
        }
    };
}

whole!(ReadHalf<'_>);
whole!(WriteHalf<'_>);
whole!(OwnedReadHalf);
whole!(OwnedWriteHalf);

/// Error of [`OwnedReadHalf::reunite`] for halves of different connections. Contains both halves.
pub struct ReuniteError<S: Connection = TcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Connection> fmt::Debug for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReuniteError").finish_non_exhaustive()
    }
}

impl<S: Connection> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different connections")
    }
}

impl<S: Connection> Error for ReuniteError<S> {}
