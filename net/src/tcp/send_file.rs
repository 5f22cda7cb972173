//! Sending files without copying them through the program.

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

/// The most of a file that is sent at once, so that others have their turn in between.
const SEND_FILE_BYTES: usize = 1 << 20;

/// The most that is copied through the program at once where the system refuses to send files.
const PLAIN_BYTES: usize = 64 * 1_024;

impl TcpStream {
    /// Sends part of a file without copying it through the program. `range` says which, in bytes
    /// from the file's begin, and is always the part that has still to be sent.
    ///
    /// Reading the file may block the loop for as long as the disk takes, as any file does: meant
    /// for files that are in memory anyway, as those that are served often are.
    ///
    /// # Errors
    /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the file ends within the range; what the
    /// system says.
    ///
    /// # Cancel safety
    /// Nothing is lost or doubled: `range` says how far it came, and the same call goes on from
    /// there.
    ///
    /// # Platform
    /// Linux, macOS and FreeBSD. A peer that is gone is an error, never a `SIGPIPE`. In a sandbox of
    /// Linux that refuses sendfile(2) the file is read and written.
    ///
    /// # References
    /// [sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html).
    pub async fn send_file(&self, file: &File, range: &mut Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            poll_fn(poll_proceed).await;
        }
        let no_signal = NoSignal::new();
        while range.start < range.end {
            // The system takes less than it is asked for where it has to.
            let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let (offset, wanted) = (range.start, wanted.min(SEND_FILE_BYTES));
            let send = |stream: &net::TcpStream| match no_signal
                .call(|| part(stream, file, offset, wanted))
            {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    copied(stream, file, offset, wanted)
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
fn part(stream: &net::TcpStream, file: &File, offset: u64, wanted: usize) -> io::Result<usize> {
    polyloop_reactor::socket::send_file(stream.as_fd(), file.as_fd(), offset, wanted)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn part(stream: &net::TcpStream, file: &File, offset: u64, wanted: usize) -> io::Result<usize> {
    let offset =
        usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    socket2::SockRef::from(stream).sendfile(file, offset, std::num::NonZeroUsize::new(wanted))
}

/// Sends part of a file by reading and writing. What the connection does not take is read again.
fn copied(stream: &net::TcpStream, file: &File, offset: u64, wanted: usize) -> io::Result<usize> {
    let mut bytes = vec![0; wanted.min(PLAIN_BYTES)];
    let n_read = file.read_at(&mut bytes, offset)?;
    if n_read == 0 { Ok(0) } else { stream.try_write(&bytes[..n_read]) }
}
