//! What all byte streams have in common: one way of reading and one of writing.
//!
//! The methods of the streams and of their halves are written here once, by two macros, so that
//! they do the same and promise the same everywhere.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut, PipeReader, Read};
use std::mem;
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net as unix;
use std::task::{Context, Poll, ready};

use polyloop_executor::{Tried, poll_proceed};
use polyloop_reactor::Direction;
use polyloop_reactor::socket::{MAX_SLICES, NO_SIGNAL};
use socket2::SockRef;

use crate::AsyncFd;
use crate::async_fd::Waiter;

/// Something to read bytes from, without waiting.
pub trait Receive: AsFd + Send + Sync + 'static {
    /// Whether reading less than was asked for proves that nothing more is there, if it is what its
    /// type says.
    const SHORT_IS_EMPTY: bool;

    /// Reads into one buffer.
    fn receive(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Reads into several buffers.
    fn receive_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
}

/// Something to write bytes to, without waiting.
pub trait Transmit: AsFd + Send + Sync + 'static {
    /// Writes from one buffer.
    fn transmit(&self, buf: &[u8]) -> io::Result<usize>;

    /// Writes from several buffers.
    fn transmit_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Sockets never raise `SIGPIPE`, in whatever way they are written to, nor do pipes.
macro_rules! socket {
    ($socket:ty, short_is_empty: $short_is_empty:literal) => {
        impl Receive for $socket {
            const SHORT_IS_EMPTY: bool = $short_is_empty;

            fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
                (&*SockRef::from(self)).read(buf)
            }

            fn receive_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*SockRef::from(self)).read_vectored(bufs)
            }
        }

        impl Transmit for $socket {
            fn transmit(&self, buf: &[u8]) -> io::Result<usize> {
                SockRef::from(self).send_with_flags(buf, NO_SIGNAL)
            }

            fn transmit_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                SockRef::from(self).send_vectored_with_flags(bufs, NO_SIGNAL)
            }
        }
    };
}

socket!(net::TcpStream, short_is_empty: true);
// Linux ends a read where descriptors travel with the bytes, whatever comes after.
socket!(unix::UnixStream, short_is_empty: false);

impl Receive for PipeReader {
    const SHORT_IS_EMPTY: bool = true;

    fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut reader = self;
        reader.read(buf)
    }

    fn receive_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut reader = self;
        reader.read_vectored(bufs)
    }
}

/// Says what moving so much of what was asked for came to.
///
/// Less than asked says that the next try would block. Zero is the end of the stream, which can
/// be read again and again.
fn moved(n_bytes: usize, asked: usize) -> (usize, Tried) {
    let is_short = n_bytes > 0 && n_bytes < asked;
    (n_bytes, if is_short { Tried::Short } else { Tried::Done })
}

/// Says what reading so much of what was asked for came to.
fn received<T: Receive>(n_bytes: usize, asked: usize) -> (usize, Tried) {
    if T::SHORT_IS_EMPTY { moved(n_bytes, asked) } else { (n_bytes, Tried::Done) }
}

/// Cuts off the slices that one system call does not take, and those in front that are empty: a call that
/// got nothing else would move nothing, which reads as the end of the stream.
fn cut<'a, 'b>(bufs: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    let begin = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    &bufs[begin..bufs.len().min(begin + MAX_SLICES)]
}

/// The same for slices to be read into.
fn cut_mut<'a, 'b>(bufs: &'a mut [IoSliceMut<'b>]) -> &'a mut [IoSliceMut<'b>] {
    let begin = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    let end = bufs.len().min(begin + MAX_SLICES);
    &mut bufs[begin..end]
}

// The futures that a task keeps while it waits are written by hand: nested ones of the compiler's
// keep their arguments once for each layer, and the memory of a connection is that of its task.

pub(crate) fn read<T: Receive>(
    fd: &AsyncFd<T>,
    buf: &mut [u8],
) -> impl Future<Output = io::Result<usize>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| {
        if buf.is_empty() {
            return poll_proceed(cx).map(|()| Ok(0));
        }
        waiter.poll_attempt(cx, |io| {
            let n_bytes = io.receive(buf)?;
            Ok(received::<T>(n_bytes, buf.len()))
        })
    })
}

pub(crate) async fn read_vectored<T: Receive>(
    fd: &AsyncFd<T>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let bufs = cut_mut(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    if size == 0 {
        poll_fn(poll_proceed).await;
        return Ok(0);
    }
    let receive = |io: &T| Ok(received::<T>(io.receive_vectored(bufs)?, size));
    fd.async_attempt(Direction::Read, receive).await
}

pub(crate) fn read_exact<T: Receive>(
    fd: &AsyncFd<T>,
    mut buf: &mut [u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| poll_read_exact(&mut waiter, &mut buf, cx))
}

pub(crate) fn read_exact_buf<T: Receive>(
    fd: &AsyncFd<T>,
    buf: &mut &mut [u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| poll_read_exact(&mut waiter, buf, cx))
}

fn poll_read_exact<T: Receive>(
    waiter: &mut Waiter<'_, T>,
    buf: &mut &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if buf.is_empty() {
        return poll_proceed(cx).map(Ok);
    }
    while !buf.is_empty() {
        let receive = |io: &T| Ok(received::<T>(io.receive(buf)?, buf.len()));
        match ready!(waiter.poll_attempt(cx, receive))? {
            0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n_bytes => *buf = &mut mem::take(buf)[n_bytes..],
        }
    }
    Poll::Ready(Ok(()))
}

pub(crate) fn try_read<T: Receive>(fd: &AsyncFd<T>, buf: &mut [u8]) -> io::Result<usize> {
    let size = buf.len();
    if size == 0 {
        return Ok(0);
    }
    fd.try_attempt(Direction::Read, |io| Ok(received::<T>(io.receive(buf)?, size)))
}

pub(crate) fn try_read_vectored<T: Receive>(
    fd: &AsyncFd<T>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let bufs = cut_mut(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    if size == 0 {
        return Ok(0);
    }
    let receive = |io: &T| Ok(received::<T>(io.receive_vectored(bufs)?, size));
    fd.try_attempt(Direction::Read, receive)
}

pub(crate) fn write<T: Transmit>(
    fd: &AsyncFd<T>,
    buf: &[u8],
) -> impl Future<Output = io::Result<usize>> {
    fd.async_attempt(Direction::Write, |io| Ok(moved(io.transmit(buf)?, buf.len())))
}

pub(crate) async fn write_vectored<T: Transmit>(
    fd: &AsyncFd<T>,
    bufs: &[IoSlice<'_>],
) -> io::Result<usize> {
    let bufs = cut(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    let transmit = |io: &T| Ok(moved(io.transmit_vectored(bufs)?, size));
    fd.async_attempt(Direction::Write, transmit).await
}

pub(crate) fn write_all<T: Transmit>(
    fd: &AsyncFd<T>,
    mut buf: &[u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Write);
    poll_fn(move |cx| poll_write_all(&mut waiter, &mut buf, cx))
}

pub(crate) fn write_all_buf<T: Transmit>(
    fd: &AsyncFd<T>,
    buf: &mut &[u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Write);
    poll_fn(move |cx| poll_write_all(&mut waiter, buf, cx))
}

fn poll_write_all<T: Transmit>(
    waiter: &mut Waiter<'_, T>,
    buf: &mut &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if buf.is_empty() {
        return poll_proceed(cx).map(Ok);
    }
    while !buf.is_empty() {
        let transmit = |io: &T| Ok(moved(io.transmit(buf)?, buf.len()));
        match ready!(waiter.poll_attempt(cx, transmit))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n_bytes => *buf = &buf[n_bytes..],
        }
    }
    Poll::Ready(Ok(()))
}

pub(crate) async fn write_all_vectored<T: Transmit>(
    fd: &AsyncFd<T>,
    mut bufs: &mut [IoSlice<'_>],
) -> io::Result<()> {
    // Empty ones at the front count as written.
    IoSlice::advance_slices(&mut bufs, 0);
    if bufs.is_empty() {
        poll_fn(poll_proceed).await;
    }
    while !bufs.is_empty() {
        match write_vectored(fd, bufs).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n_bytes => IoSlice::advance_slices(&mut bufs, n_bytes),
        }
    }
    Ok(())
}

pub(crate) fn try_write<T: Transmit>(fd: &AsyncFd<T>, buf: &[u8]) -> io::Result<usize> {
    fd.try_attempt(Direction::Write, |io| Ok(moved(io.transmit(buf)?, buf.len())))
}

pub(crate) fn try_write_vectored<T: Transmit>(
    fd: &AsyncFd<T>,
    bufs: &[IoSlice<'_>],
) -> io::Result<usize> {
    let bufs = cut(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    fd.try_attempt(Direction::Write, |io| Ok(moved(io.transmit_vectored(bufs)?, size)))
}

/// Gives a type the methods of a stream that can be read. It has a `fd()` to read from.
macro_rules! reading {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Reads what is there, up to the size of `buf`, waiting for the first byte.
            ///
            /// Returns the number of bytes; zero says that no more will come. With an empty `buf` it
            /// returns zero at once, without a system call.
            ///
            /// # Errors
            /// What the system says, such as
            /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset).
            ///
            /// # Cancel safety
            /// No byte is lost.
            ///
            /// # References
            /// [read(2)](https://man7.org/linux/man-pages/man2/read.2.html).
            pub fn read(
                &self,
                buf: &mut [u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                $crate::byte_stream::read(self.fd(), buf)
            }

            /// Reads like `read`, into several buffers, one after another.
            ///
            /// One call fills 1,024 of them at most, as many as a system call takes.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// No byte is lost.
            ///
            /// # References
            /// [readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html).
            pub async fn read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::read_vectored(self.fd(), bufs).await
            }

            /// Reads until `buf` is full.
            ///
            /// # Errors
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) if the stream ends before
            /// that; what the system says.
            ///
            /// # Cancel safety
            /// What was read stays in `buf`, but how much is not told. To be able to go on, use
            /// `read_exact_buf`.
            pub fn read_exact(
                &self,
                buf: &mut [u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::read_exact(self.fd(), buf)
            }

            /// Reads until `buf` is empty: it always is the part that has still to be filled.
            ///
            /// # Errors
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) if the stream ends before
            /// that; what the system says.
            ///
            /// # Cancel safety
            /// No byte is lost: `buf` says how far it came, and the same call goes on from there.
            pub fn read_exact_buf(
                &self,
                buf: &mut &mut [u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::read_exact_buf(self.fd(), buf)
            }

            /// Waits until a read is worth trying.
            ///
            /// With `try_read` a stream needs no buffer while nothing is there to be read.
            ///
            /// # Errors
            /// What the selector says.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub fn readable(&self) -> impl Future<Output = std::io::Result<()>> {
                self.fd().ready(polyloop_reactor::Direction::Read)
            }

            /// Reads what is there now.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if nothing is; what the system
            /// says.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                $crate::byte_stream::try_read(self.fd(), buf)
            }

            /// Reads what is there now into several buffers.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if nothing is; what the system
            /// says.
            pub fn try_read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::try_read_vectored(self.fd(), bufs)
            }
        }
    };
}

/// Gives a type the methods of a stream that can be written. It has a `fd()` to write to.
macro_rules! writing {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Writes as much of `buf` as there is room for, waiting for the first byte's.
            ///
            /// # Errors
            /// What the system says, such as [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
            ///
            /// # Cancel safety
            /// Nothing was written if the future is dropped before it is ready.
            ///
            /// # References
            /// [send(2)](https://man7.org/linux/man-pages/man2/send.2.html).
            pub fn write(
                &self,
                buf: &[u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                $crate::byte_stream::write(self.fd(), buf)
            }

            /// Writes like `write`, from several buffers, one after another.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// Nothing was written if the future is dropped before it is ready.
            ///
            /// # References
            /// [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html).
            pub async fn write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::write_vectored(self.fd(), bufs).await
            }

            /// Writes all of `buf`.
            ///
            /// # Errors
            /// What the system says; how much was written before is not told.
            ///
            /// # Cancel safety
            /// Part of `buf` may have been written, and how much is not told. To be able to go
            /// on, use `write_all_buf`.
            pub fn write_all(
                &self,
                buf: &[u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::write_all(self.fd(), buf)
            }

            /// Writes until `buf` is empty: it always is the part that has still to be written.
            ///
            /// # Errors
            /// What the system says; `buf` then is what was not written.
            ///
            /// # Cancel safety
            /// Nothing is lost or doubled: `buf` says how far it came, and the same call goes on
            /// from there.
            pub fn write_all_buf(
                &self,
                buf: &mut &[u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::write_all_buf(self.fd(), buf)
            }

            /// Writes all of several buffers, with as few calls as the system needs.
            ///
            /// # Errors
            /// What the system says; how much was written before is not told.
            ///
            /// # Cancel safety
            /// Part of the buffers may have been written, and how much is not told. To be able to
            /// go on, loop over `write_vectored`.
            pub async fn write_all_vectored(
                &self,
                bufs: &mut [std::io::IoSlice<'_>],
            ) -> std::io::Result<()> {
                $crate::byte_stream::write_all_vectored(self.fd(), bufs).await
            }

            /// Waits until a write is worth trying.
            ///
            /// # Errors
            /// What the selector says.
            ///
            /// # Cancel safety
            /// Nothing is lost.
            pub fn writable(&self) -> impl Future<Output = std::io::Result<()>> {
                self.fd().ready(polyloop_reactor::Direction::Write)
            }

            /// Writes what there is room for now.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if there is none; what the system
            /// says.
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                $crate::byte_stream::try_write(self.fd(), buf)
            }

            /// Writes what there is room for now, from several buffers.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if there is none; what the system
            /// says.
            pub fn try_write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::try_write_vectored(self.fd(), bufs)
            }
        }
    };
}

/// Gives a type the method of a socket that can be looked into.
macro_rules! peeking {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Reads like `read`, but leaves the data to be read again.
            ///
            /// # Errors
            /// What the system says.
            ///
            /// # Cancel safety
            /// No byte is lost.
            pub async fn peek(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let peek = |io: &_| {
                    polyloop_reactor::socket::peek(std::os::fd::AsFd::as_fd(io), buf)
                };
                self.fd().async_io(polyloop_reactor::Direction::Read, peek).await
            }
        }
    };
}

pub(crate) use {peeking, reading, writing};
