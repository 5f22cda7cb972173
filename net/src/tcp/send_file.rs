//! Sending files without copying them through the program.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net;
use std::num::NonZeroUsize;
use std::ops::Range;

use polyloop_executor::poll_proceed;
use polyloop_reactor::Direction;
use polyloop_reactor::socket::NoSignal;
use socket2::SockRef;

use super::TcpStream;

/// The most of a file that is sent at once, so that others have their turn in between.
const SEND_FILE_BYTES: usize = 1 << 20;

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
    /// Linux, macOS and FreeBSD. A peer that is gone is an error, never a `SIGPIPE`.
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
            let offset = usize::try_from(range.start)
                .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            let wanted = NonZeroUsize::new(wanted.min(SEND_FILE_BYTES));
            let send = |stream: &net::TcpStream| {
                no_signal.call(|| SockRef::from(stream).sendfile(file, offset, wanted))
            };
            match self.fd().async_io(Direction::Write, send).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n_bytes => range.start += n_bytes as u64,
            }
        }
        Ok(())
    }
}
