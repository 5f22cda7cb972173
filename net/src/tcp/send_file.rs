//! Sending files without copying them to user space.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net;
use std::ops::Range;
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;
use polyloop_reactor::socket::NoSignal;

use super::TcpStream;
use crate::byte_stream::TryWrite;

/// The maximum number of bytes sent per call, so that other tasks run in between.
const SEND_FILE_BYTES: usize = 1 << 20;

/// The maximum number of bytes copied per call where `sendfile` is not permitted.
const PLAIN_BYTES: usize = 64 * 1_024;

impl TcpStream {
    /// Sends a range of bytes of a file without copying it to user space.
    ///
    /// The start of `range` advances as bytes are sent, so `range` is always the part that is not sent yet.
    ///
    /// Reading from the file blocks the loop until the disk has answered. Use this method for files that are
    /// usually in the page cache.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the file ends before the range does; otherwise as
    /// for `write`.
    ///
    /// # Cancel safety
    /// No data is lost or sent twice: calling the method again with the same `range` continues where the
    /// dropped future stopped.
    ///
    /// # Platform
    /// Linux, macOS and FreeBSD. If a Linux sandbox refuses sendfile(2), the file is read and written.
    ///
    /// # References
    /// [sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html).
    #[doc(alias = "sendfile")]
    pub async fn send_file(&self, file: &File, range: &mut Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            poll_fn(poll_proceed).await;
        }
        let no_signal = NoSignal::new();
        while range.start < range.end {
            // The system limits the size itself where necessary.
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let (offset, len) = (range.start, len.min(SEND_FILE_BYTES));
            let send = |stream: &net::TcpStream| match no_signal
                .call(|| part(stream, file, offset, len))
            {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    copied(stream, file, offset, len)
                }
                sent => sent,
            };
            match self.fd().async_io(Direction::Write, send).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n_bytes => range.start += n_bytes as u64,
            }
        }
        Ok(())
    }
}

/// Sends part of a file with one system call.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn part(stream: &net::TcpStream, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    polyloop_reactor::socket::send_file(stream.as_fd(), file.as_fd(), offset, len)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn part(stream: &net::TcpStream, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let offset =
        usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    socket2::SockRef::from(stream).sendfile(file, offset, std::num::NonZeroUsize::new(len))
}

/// Sends part of a file by reading and writing. Bytes that the connection does not take are read again.
fn copied(stream: &net::TcpStream, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    let mut bytes = vec![0; len.min(PLAIN_BYTES)];
    let n_read = file.read_at(&mut bytes, offset)?;
    if n_read == 0 { Ok(0) } else { stream.try_write(&bytes[..n_read]) }
}
