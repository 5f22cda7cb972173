//! Writing.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;
use polyloop_reactor::socket::MAX_SLICES;

use super::{TryWrite, first_nonempty, transferred};
use crate::AsyncFd;
use crate::async_fd::Waiter;

/// Returns the slices that one system call writes.
fn limit<'a, 'b>(bufs: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    let start = first_nonempty(bufs);
    &bufs[start..bufs.len().min(start + MAX_SLICES)]
}

pub(crate) fn write<T: TryWrite>(
    fd: &AsyncFd<T>,
    buf: &[u8],
) -> impl Future<Output = io::Result<usize>> {
    fd.async_attempt(Direction::Write, |io| Ok(transferred(io.try_write(buf)?, buf.len())))
}

pub(crate) async fn write_vectored<T: TryWrite>(
    fd: &AsyncFd<T>,
    bufs: &[IoSlice<'_>],
) -> io::Result<usize> {
    let bufs = limit(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    let attempt = |io: &T| Ok(transferred(io.try_write_vectored(bufs)?, size));
    fd.async_attempt(Direction::Write, attempt).await
}

pub(crate) fn write_all<T: TryWrite>(
    fd: &AsyncFd<T>,
    mut buf: &[u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Write);
    poll_fn(move |cx| poll_write_all(&mut waiter, &mut buf, cx))
}

pub(crate) fn write_all_buf<T: TryWrite>(
    fd: &AsyncFd<T>,
    buf: &mut &[u8],
) -> impl Future<Output = io::Result<()>> {
    let mut waiter = Waiter::new(fd, Direction::Write);
    poll_fn(move |cx| poll_write_all(&mut waiter, buf, cx))
}

fn poll_write_all<T: TryWrite>(
    waiter: &mut Waiter<'_, T>,
    buf: &mut &[u8],
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if buf.is_empty() {
        return poll_proceed(cx).map(Ok);
    }
    while !buf.is_empty() {
        let attempt = |io: &T| Ok(transferred(io.try_write(buf)?, buf.len()));
        match ready!(waiter.poll_attempt(cx, attempt))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            n_bytes => *buf = &buf[n_bytes..],
        }
    }
    Poll::Ready(Ok(()))
}

pub(crate) async fn write_all_vectored<T: TryWrite>(
    fd: &AsyncFd<T>,
    mut bufs: &mut [IoSlice<'_>],
) -> io::Result<()> {
    // Skips empty slices at the front.
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

pub(crate) fn try_write<T: TryWrite>(fd: &AsyncFd<T>, buf: &[u8]) -> io::Result<usize> {
    fd.try_attempt(Direction::Write, |io| Ok(transferred(io.try_write(buf)?, buf.len())))
}

pub(crate) fn try_write_vectored<T: TryWrite>(
    fd: &AsyncFd<T>,
    bufs: &[IoSlice<'_>],
) -> io::Result<usize> {
    let bufs = limit(bufs);
    let size = bufs.iter().map(|buf| buf.len()).sum();
    fd.try_attempt(Direction::Write, |io| Ok(transferred(io.try_write_vectored(bufs)?, size)))
}

/// Gives a stream with a method `fd` the methods for writing.
macro_rules! writing {
    ($stream:ty $(where $generic:ident: $bound:path)?) => {
        impl $(<$generic: $bound>)? $stream {
            /// Writes bytes from `buf`, waiting until at least one can be written.
            ///
            /// Returns the number of bytes written.
            ///
            /// # Errors
            /// [`BrokenPipe`](std::io::ErrorKind::BrokenPipe) or
            /// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset) if the reading end is
            /// closed.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no data was written.
            ///
            /// # References
            /// [send(2)](https://man7.org/linux/man-pages/man2/send.2.html).
            pub fn write(
                &self,
                buf: &[u8],
            ) -> impl Future<Output = std::io::Result<usize>> {
                $crate::byte_stream::write(self.fd(), buf)
            }

            /// Writes bytes from several buffers in order, as `write` does from one.
            ///
            /// One call writes from at most 1,024 buffers, the limit of the system call.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, no data was written.
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
            /// As for `write`. The number of bytes written before the error is lost.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, part of `buf` may have been written,
            /// and the number of bytes is lost. Use `write_all_buf` to be able to continue.
            #[doc(alias = "sendall")]
            pub fn write_all(
                &self,
                buf: &[u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::write_all(self.fd(), buf)
            }

            /// Writes all of `buf`, and shrinks `buf` from the front as it is written.
            ///
            /// `buf` is always the part that is not written yet.
            ///
            /// # Errors
            /// As for `write`.
            ///
            /// # Cancel safety
            /// No data is lost or written twice: calling the method again with the same `buf`
            /// continues where the dropped future stopped.
            pub fn write_all_buf(
                &self,
                buf: &mut &[u8],
            ) -> impl Future<Output = std::io::Result<()>> {
                $crate::byte_stream::write_all_buf(self.fd(), buf)
            }

            /// Writes all bytes of several buffers, with as few system calls as possible.
            ///
            /// `bufs` is modified; its contents are unspecified afterwards.
            ///
            /// # Errors
            /// As for `write`. The number of bytes written before the error is lost.
            ///
            /// # Cancel safety
            /// If the future is dropped before it completes, part of the data may have been
            /// written, and the number of bytes is lost. Call `write_vectored` in a loop to be
            /// able to continue.
            pub async fn write_all_vectored(
                &self,
                bufs: &mut [std::io::IoSlice<'_>],
            ) -> std::io::Result<()> {
                $crate::byte_stream::write_all_vectored(self.fd(), bufs).await
            }

            /// Waits until the stream is writable.
            ///
            /// The wait can end although the stream is not writable; `try_write` then returns
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
            ///
            /// # Cancel safety
            /// Dropping the future has no effect on the stream.
            pub fn writable(&self) -> impl Future<Output = std::io::Result<()>> {
                self.fd().ready(polyloop_reactor::Direction::Write)
            }

            /// Writes the bytes of `buf` that can be written without waiting.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none can; otherwise as for
            /// `write`.
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                $crate::byte_stream::try_write(self.fd(), buf)
            }

            /// Writes the bytes of several buffers that can be written without waiting.
            ///
            /// # Errors
            /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) if none can; otherwise as for
            /// `write`.
            pub fn try_write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                $crate::byte_stream::try_write_vectored(self.fd(), bufs)
            }
        }
    };
}

pub(crate) use writing;
