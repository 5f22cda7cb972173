//! The two directions of a connection, apart.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use super::TcpStream;

/// Reads from a borrowed connection. Made by [`TcpStream::split`].
#[derive(Clone, Copy, Debug)]
pub struct ReadHalf<'a> {
    stream: &'a TcpStream,
}

/// Writes to a borrowed connection. Made by [`TcpStream::split`].
#[derive(Clone, Copy, Debug)]
pub struct WriteHalf<'a> {
    stream: &'a TcpStream,
}

/// Reads from a connection that it owns together with its other half. Made by
/// [`TcpStream::into_split`].
#[derive(Debug)]
pub struct OwnedReadHalf {
    stream: Arc<TcpStream>,
}

/// Writes to a connection that it owns together with its other half. Made by
/// [`TcpStream::into_split`].
///
/// Dropping it closes the connection for writing, so that the peer learns that no more comes;
/// [`forget`](OwnedWriteHalf::forget) does not.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    stream: Arc<TcpStream>,
    close_on_drop: bool,
}

pub(super) fn split(stream: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let stream = Arc::new(stream);
    (OwnedReadHalf { stream: Arc::clone(&stream) }, OwnedWriteHalf { stream, close_on_drop: true })
}

impl<'a> ReadHalf<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> ReadHalf<'a> {
        ReadHalf { stream }
    }
}

impl<'a> WriteHalf<'a> {
    pub(super) fn new(stream: &'a TcpStream) -> WriteHalf<'a> {
        WriteHalf { stream }
    }
}

/// Gives a half the reading methods of the stream behind it.
macro_rules! reading {
    ($half:ty) => {
        impl $half {
            /// Reads as [`TcpStream::read`] does.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// No byte is lost.
            pub async fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream.read(buf).await
            }

            /// Reads until `buf` is full, as [`TcpStream::read_exact`] does.
            ///
            /// # Errors
            /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the peer ends before that; what
            /// the system says.
            ///
            /// # Cancel safety
            /// What was read stays in `buf`, but how much is not told.
            pub async fn read_exact(&self, buf: &mut [u8]) -> io::Result<()> {
                self.stream.read_exact(buf).await
            }

            /// Reads without taking, as [`TcpStream::peek`] does.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// No byte is lost.
            pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream.peek(buf).await
            }

            /// Waits until a read is worth trying.
            ///
            /// # Errors
            /// What the selector says.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub async fn readable(&self) -> io::Result<()> {
                self.stream.readable().await
            }

            /// Reads what is there now, as [`TcpStream::try_read`] does.
            ///
            /// # Errors
            /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is; what the system says.
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.stream.try_read(buf)
            }

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

/// Gives a half the writing methods of the stream behind it.
macro_rules! writing {
    ($half:ty) => {
        impl $half {
            /// Writes as [`TcpStream::write`] does.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// Nothing was written if the future is dropped before it is ready.
            pub async fn write(&self, buf: &[u8]) -> io::Result<usize> {
                self.stream.write(buf).await
            }

            /// Writes all of `buf`, as [`TcpStream::write_all`] does.
            ///
            /// # Errors
            /// What the system says; how much was written before is not told.
            ///
            /// # Cancel safety
            /// Part of `buf` may have been written, and how much is not told.
            pub async fn write_all(&self, buf: &[u8]) -> io::Result<()> {
                self.stream.write_all(buf).await
            }

            /// Waits until a write is worth trying.
            ///
            /// # Errors
            /// What the selector says.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub async fn writable(&self) -> io::Result<()> {
                self.stream.writable().await
            }

            /// Writes what there is room for now, as [`TcpStream::try_write`] does.
            ///
            /// # Errors
            /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is none; what the system says.
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.stream.try_write(buf)
            }

            /// Closes the connection for writing.
            ///
            /// # Errors
            /// What the system says.
            pub fn shutdown(&self) -> io::Result<()> {
                self.stream.shutdown(Shutdown::Write)
            }
        }
    };
}

reading!(ReadHalf<'_>);
reading!(OwnedReadHalf);
writing!(WriteHalf<'_>);
writing!(OwnedWriteHalf);

impl OwnedReadHalf {
    /// Puts the two halves of one connection together again.
    ///
    /// # Errors
    /// Both halves, if they are not of one connection.
    pub fn reunite(self, writer: OwnedWriteHalf) -> Result<TcpStream, ReuniteError> {
        if !Arc::ptr_eq(&self.stream, &writer.stream) {
            return Err(ReuniteError(self, writer));
        }
        writer.forget();
        Ok(Arc::into_inner(self.stream).expect("a connection has two halves, and both were here"))
    }
}

impl OwnedWriteHalf {
    /// Drops the half without closing the connection for writing.
    pub fn forget(mut self) {
        self.close_on_drop = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.close_on_drop {
            // It fails only if the connection is broken, which the reading half will hear of.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

/// Says that two halves are not of one connection, and gives them back.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of one connection")
    }
}

impl Error for ReuniteError {}
