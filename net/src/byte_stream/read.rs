//! Reading.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::mem;
use std::task::{Context, Poll, ready};

use polyloop_executor::{Tried, poll_proceed};
use polyloop_reactor::Direction;
use polyloop_reactor::socket::MAX_SLICES;

use super::{TryRead, first_nonempty, transferred};
use crate::AsyncFd;
use crate::async_fd::Waiter;

/// Classifies a read that returned `n_bytes` of `requested`.
fn received<T: TryRead>(n_bytes: usize, requested: usize) -> (usize, Tried) {
    if T::SHORT_IS_EMPTY { transferred(n_bytes, requested) } else { (n_bytes, Tried::Done) }
}

/// Returns the slices that one system call fills.
fn limit<'a, 'b>(bufs: &'a mut [IoSliceMut<'b>]) -> &'a mut [IoSliceMut<'b>] {
    let start = first_nonempty(bufs);
    let end = bufs.len().min(start + MAX_SLICES);
    &mut bufs[start..end]
}

// These futures are written by hand: each `async fn` around another one stores its arguments again,
// and an idle connection takes as much memory as its task.

pub(crate) fn read<T: TryRead>(
    fd: &AsyncFd<T>,
    buf: &mut [u8],
) -> impl Future<Output = io::Result<usize>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| {
        if buf.is_empty() {
            return poll_proceed(cx).map(|()| Ok(0));
        }
        waiter.poll_attempt(cx, |io| {
            let n_bytes = io.try_read(buf)?;
            Ok(received::<T>(n_bytes, buf.len()))
        })
    })
}

pub(crate) async fn read_vectored<T: TryRead>(
    fd: &AsyncFd<T>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let bufs = limit(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    if size == 0 {
        poll_fn(poll_proceed).await;
        return Ok(0);
    }
    let attempt = |io: &T| Ok(received::<T>(io.try_read_vectored(bufs)?, size));
    fd.async_attempt(Direction::Read, attempt).await
}

pub(crate) fn read_exact<T: TryRead>(
    fd: &AsyncFd<T>,
    mut buf: &mut [u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| poll_read_exact(&mut waiter, &mut buf, cx))
}

pub(crate) fn read_exact_buf<T: TryRead>(
    fd: &AsyncFd<T>,
    buf: &mut &mut [u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Read);
    poll_fn(move |cx| poll_read_exact(&mut waiter, buf, cx))
}

fn poll_read_exact<T: TryRead>(
    waiter: &mut Waiter<'_, T>,
    buf: &mut &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if buf.is_empty() {
        return poll_proceed(cx).map(Ok);
    }
    while !buf.is_empty() {
        let attempt = |io: &T| Ok(received::<T>(io.try_read(buf)?, buf.len()));
        match ready!(waiter.poll_attempt(cx, attempt))? {
            0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n_bytes => *buf = &mut mem::take(buf)[n_bytes..],
        }
    }
    Poll::Ready(Ok(()))
}

pub(crate) fn try_read<T: TryRead>(fd: &AsyncFd<T>, buf: &mut [u8]) -> io::Result<usize> {
    let size = buf.len();
    if size == 0 {
        return Ok(0);
    }
    fd.try_attempt(Direction::Read, |io| Ok(received::<T>(io.try_read(buf)?, size)))
}

pub(crate) fn try_read_vectored<T: TryRead>(
    fd: &AsyncFd<T>,
    bufs: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let bufs = limit(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    if size == 0 {
        return Ok(0);
    }
    let attempt = |io: &T| Ok(received::<T>(io.try_read_vectored(bufs)?, size));
    fd.try_attempt(Direction::Read, attempt)
}

/// Gives a stream with a method `fd` the methods for reading.
macro_rules! reading {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Reads into `buf`, waiting until at least one byte is available.
            ///
            /// Returns the number of bytes read. Zero means that the stream has ended or that `buf`
            /// is empty; with an empty `buf` no system call is made.
            ///
            /// # Errors
            /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) if the peer has reset the
            /// connection.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no data was read.
            ///
            /// # References
            /// [read(2)](https://man7.org/linux/man-pages/man2/read.2.html).
            pub fn read(
                &self,
                buf: &mut [u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                $crate::byte_stream::read(self.fd(), buf)
            }

            /// Reads into several buffers, filling them in order, as `read` does into one.
            ///
            /// One call fills at most 1,024 buffers, the limit of the system call.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no data was read.
            ///
            /// # References
            /// [readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html).
            pub async fn read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::read_vectored(self.fd(), bufs).await
            }

            /// Reads exactly as many bytes as `buf` holds.
            ///
            /// # Errors
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) if the stream ends first. The
            /// contents of `buf` are then unspecified.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, some bytes may have been read into
            /// `buf`, and their number is lost. Use `read_exact_buf` to be able to continue.
            pub fn read_exact(
                &self,
                buf: &mut [u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::read_exact(self.fd(), buf)
            }

            /// Reads until `buf` is full, and shrinks `buf` from the front as it is filled.
            ///
            /// `buf` is always the part that is not filled yet.
            ///
            /// # Errors
            /// [`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof) if the stream ends first.
            ///
            /// # Cancel safety
            /// No data is lost: calling the method again with the same `buf` continues where the
            /// dropped future stopped.
            pub fn read_exact_buf(
                &self,
                buf: &mut &mut [u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::read_exact_buf(self.fd(), buf)
            }

            /// Waits until the stream is readable, or has ended.
            ///
            /// Usually followed by `try_read`, so that no buffer is needed while waiting. The wait
            /// can end although no data is available; `try_read` then returns
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the stream.
            pub fn readable(&self) -> impl Future<Output = std::io::Result<()>> {
                self.fd().ready(polyloop_reactor::Direction::Read)
            }

            /// Reads the bytes that are available now into `buf`.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none are; otherwise as for `read`.
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                $crate::byte_stream::try_read(self.fd(), buf)
            }

            /// Reads the bytes that are available now into several buffers.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none are; otherwise as for `read`.
            pub fn try_read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::try_read_vectored(self.fd(), bufs)
            }
        }
    };
}

/// Gives a socket with a method `fd` the methods for peeking.
macro_rules! peeking {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Reads into `buf` as `read` does, but leaves the data in the socket.
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the stream.
            ///
            /// # References
            /// `MSG_PEEK` in [recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html).
            pub async fn peek(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let peek = |io: &_| {
                    polyloop_reactor::socket::peek(std::os::fd::AsFd::as_fd(io), buf)
                };
                self.fd().async_io(polyloop_reactor::Direction::Read, peek).await
            }

            /// Reads the bytes that are available now into `buf`, but leaves them in the socket.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none are.
            pub fn try_peek(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let peek = |io: &_| {
                    polyloop_reactor::socket::peek(std::os::fd::AsFd::as_fd(io), buf)
                };
                self.fd().try_io(polyloop_reactor::Direction::Read, peek)
            }
        }
    };
}

pub(crate) use {peeking, reading};
