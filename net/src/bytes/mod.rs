//! Streams of bytes, whatever they are made of: copying, lines, frames.
//!
//! Everything here keeps what it has read and not yet handed on in a value of its own, so that a
//! future that is dropped loses nothing: the same call goes on where it stopped.

use std::future::poll_fn;
use std::io;

mod copy;

mod buffer;

mod spare;

mod buffered;

mod find;

mod parts;

mod frames;

mod too_long;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod splice;

pub use buffered::BufReader;
pub use copy::{Copier, copy, copy_bidirectional};
pub use frames::{FrameReader, FrameWriter, Framing};
pub use parts::{Lines, Split};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use splice::Splicer;
pub use too_long::TooLong;

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;

use crate::byte_stream;
use crate::{
    Connection, OwnedReadHalf, OwnedWriteHalf, PipeReader, PipeWriter, ReadHalf, TcpStream,
    UnixStream, WriteHalf,
};

/// Is read from, byte by byte or many at a time.
///
/// Implemented for the streams of this crate, for references to them, and for slices in memory.
/// An implementation for a type of one's own, such as an encrypted stream, makes copying, lines
/// and frames work with it.
pub trait AsyncRead {
    /// Reads what is there, up to the size of `buf`, waiting for the first byte. Zero is the end
    /// (unless `buf` is empty).
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// No byte may be lost: everything in this module relies on it.
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Waits until a read is worth trying, without a buffer.
    ///
    /// An implementation that cannot tell is ready at once, which is the default; readers on top
    /// of it keep a buffer while they wait. One that waits here lets them do without.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Nothing may be lost.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
        std::future::ready(Ok(()))
    }
}

/// Is written to.
///
/// Implemented for the streams of this crate, for references to them, and for a `Vec` of bytes.
pub trait AsyncWrite {
    /// Writes as much of `buf` as there is room for, waiting for the first byte's.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Nothing may have been written if the future is dropped before it is ready: everything in
    /// this module relies on it.
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>>;

    /// Tells the reader that no more will come.
    ///
    /// A pipe says so when it is dropped, and not before.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// It may be called again.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>>;
}

/// Makes a readable stream of this crate, and a reference to it, an [`AsyncRead`].
macro_rules! async_read {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? AsyncRead for $stream {
            fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                byte_stream::read(self.fd(), buf)
            }

            fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
                self.fd().ready(Direction::Read)
            }
        }

        impl $(<$generic: $bound>)? AsyncRead for &$stream {
            fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                byte_stream::read(self.fd(), buf)
            }

            fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
                self.fd().ready(Direction::Read)
            }
        }
    };
}

/// Makes a writable stream of this crate, and a reference to it, an [`AsyncWrite`].
macro_rules! async_write {
    ($stream:ty $(where $generic:ident: $bound:path)?, $finish:expr) => {
        impl $(<$generic: $bound>)? AsyncWrite for $stream {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                byte_stream::write(self.fd(), buf).await
            }

            async fn finish(&mut self) -> io::Result<()> {
                poll_fn(poll_proceed).await;
                $finish(self)
            }
        }

        impl $(<$generic: $bound>)? AsyncWrite for &$stream {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                byte_stream::write(self.fd(), buf).await
            }

            async fn finish(&mut self) -> io::Result<()> {
                poll_fn(poll_proceed).await;
                $finish(self)
            }
        }
    };
}

async_read!(TcpStream);
async_read!(UnixStream);
async_read!(PipeReader);
async_read!(ReadHalf<'_, S> where S: Connection);
async_read!(OwnedReadHalf<S> where S: Connection);
async_write!(TcpStream, |stream: &TcpStream| stream.shutdown(std::net::Shutdown::Write));
async_write!(UnixStream, |stream: &UnixStream| stream.shutdown(std::net::Shutdown::Write));
async_write!(PipeWriter, |_: &PipeWriter| Ok(()));
async_write!(WriteHalf<'_, S> where S: Connection, |half: &WriteHalf<'_, S>| half.shutdown());
async_write!(OwnedWriteHalf<S> where S: Connection, |half: &OwnedWriteHalf<S>| half.shutdown());

impl<R: AsyncRead + ?Sized> AsyncRead for &mut R {
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        (**self).read(buf)
    }

    fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
        (**self).readable()
    }
}

impl<W: AsyncWrite + ?Sized> AsyncWrite for &mut W {
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>> {
        (**self).write(buf)
    }

    fn finish(&mut self) -> impl Future<Output = io::Result<()>> {
        (**self).finish()
    }
}

impl AsyncRead for &[u8] {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(poll_proceed).await;
        io::Read::read(self, buf)
    }
}

impl AsyncWrite for Vec<u8> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(poll_proceed).await;
        self.extend_from_slice(buf);
        Ok(buf.len())
    }

    async fn finish(&mut self) -> io::Result<()> {
        poll_fn(poll_proceed).await;
        Ok(())
    }
}
