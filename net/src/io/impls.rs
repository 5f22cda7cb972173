//! Implementations of the traits for the streams of this crate and for memory.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;

use super::{Read, Write};
use crate::byte_stream;
use crate::{
    Connection, OwnedReadHalf, OwnedWriteHalf, PipeReader, PipeWriter, ReadHalf, TcpStream,
    UnixStream, WriteHalf,
};

/// Implements [`Read`] for a stream and for references to it.
macro_rules! impl_read {
    (@one $stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? Read for $stream {
            fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                byte_stream::read(self.fd(), buf)
            }

            fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
                self.fd().ready(Direction::Read)
            }
        }
    };
    ($($stream:tt)+) => {
        impl_read!(@one $($stream)+);
        impl_read!(@one &$($stream)+);
    };
}

/// Implements [`Write`] for a stream and for references to it.
macro_rules! impl_write {
    (@one $shutdown:expr, $stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? Write for $stream {
            async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                byte_stream::write(self.fd(), buf).await
            }

            async fn shutdown(&mut self) -> io::Result<()> {
                poll_fn(poll_proceed).await;
                $shutdown(self)
            }
        }
    };
    ($shutdown:expr, $($stream:tt)+) => {
        impl_write!(@one $shutdown, $($stream)+);
        impl_write!(@one $shutdown, &$($stream)+);
    };
}

impl_read!(TcpStream);
impl_read!(UnixStream);
impl_read!(PipeReader);
impl_read!(ReadHalf<'_, S> where S: Connection);
impl_read!(OwnedReadHalf<S> where S: Connection);
impl_write!(|stream: &TcpStream| stream.shutdown(Shutdown::Write), TcpStream);
impl_write!(|stream: &UnixStream| stream.shutdown(Shutdown::Write), UnixStream);
impl_write!(|_: &PipeWriter| Ok(()), PipeWriter);
impl_write!(|half: &WriteHalf<'_, S>| half.shutdown(), WriteHalf<'_, S> where S: Connection);
impl_write!(|half: &OwnedWriteHalf<S>| half.shutdown(), OwnedWriteHalf<S> where S: Connection);

impl<R: Read + ?Sized> Read for &mut R {
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
        (**self).read(buf)
    }

    fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
        (**self).readable()
    }
}

impl<W: Write + ?Sized> Write for &mut W {
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>> {
        (**self).write(buf)
    }

    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>> {
        (**self).shutdown()
    }
}

impl Read for &[u8] {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(poll_proceed).await;
        io::Read::read(self, buf)
    }
}

impl Write for Vec<u8> {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(poll_proceed).await;
        self.extend_from_slice(buf);
        Ok(buf.len())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(poll_proceed).await;
        Ok(())
    }
}
