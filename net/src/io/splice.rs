//! Copying between sockets inside the kernel.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::{NoSignal, set_pipe_size, splice};
use socket2::SockRef;

use crate::Connection;
use crate::byte_stream::{self, TryRead};

/// The requested capacity of the pipe, which limits the bytes moved at once.
///
/// Linux's default limit for unprivileged processes (`fs.pipe-max-size`). Over loopback, copying 512 MiB
/// takes 0.35 to 0.5 times the CPU time of a `Copier`; with the default capacity of 64 KiB it takes as much.
const PIPE_BYTES: usize = 1 << 20;

/// The default capacity of a pipe.
const DEFAULT_PIPE_BYTES: usize = 64 * 1_024;

/// The maximum number of bytes read to pass urgent data. The data after it is spliced again.
const STEP_BYTES: usize = 512;

/// The maximum number of bytes read at once where `splice` is not permitted.
const PLAIN_BYTES: usize = 16 * 1_024;

/// Copies from one connection to another inside the kernel, through a pipe.
///
/// It saves copying to user space and back, at the cost of a second system call per transfer and two
/// descriptors for the pipe. It needs about half the CPU time of a [`Copier`](super::Copier) for bulk data;
/// for short messages a `Copier` is better. Like a `Copier`, it can be interrupted and continued at any time.
///
/// TCP urgent data is skipped, as by reads. Writing to a connection that the peer has closed never raises
/// `SIGPIPE`; that takes two more system calls per transfer unless the process ignores the signal.
///
/// # Platform
/// Linux. If a sandbox refuses splice(2), the data is copied through user space.
///
/// # References
/// [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html).
///
/// # Examples
/// ```
/// use std::net::Shutdown;
/// use polyloop::io::Splicer;
/// use polyloop::net::UnixStream;
///
/// # polyloop::run(async {
/// let (client, front) = UnixStream::pair()?;
/// let (back, server) = UnixStream::pair()?;
/// client.write_all(b"hello").await?;
/// client.shutdown(Shutdown::Write)?;
/// assert_eq!(Splicer::new(&front, &back)?.run().await?, 5);
///
/// let mut buf = [0; 5];
/// server.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[doc(alias = "splice")]
pub struct Splicer<'a, A, B> {
    from: &'a A,
    to: &'a B,
    pipe: (io::PipeReader, io::PipeWriter),
    pipe_bytes: usize,
    n_in_pipe: usize,
    /// Bytes that were read instead of spliced. They precede those in the pipe.
    carried: Vec<u8>,
    bytes_written: u64,
    has_ended: bool,
    no_signal: NoSignal,
}

impl<'a, A: Connection, B: Connection> Splicer<'a, A, B> {
    /// Creates a splicer with its pipe. It does not read before [`run`](Splicer::run).
    pub fn new(from: &'a A, to: &'a B) -> io::Result<Splicer<'a, A, B>> {
        let pipe = io::pipe()?;
        SockRef::from(&pipe.0).set_nonblocking(true)?;
        SockRef::from(&pipe.1).set_nonblocking(true)?;
        // Fails if the user has too many large pipes. The default size works as well.
        let pipe_bytes = set_pipe_size(pipe.1.as_fd(), PIPE_BYTES).unwrap_or(DEFAULT_PIPE_BYTES);
        Ok(Splicer {
            from,
            to,
            pipe,
            pipe_bytes,
            n_in_pipe: 0,
            carried: Vec::new(),
            bytes_written: 0,
            has_ended: false,
            no_signal: NoSignal::new(),
        })
    }

    /// Copies until `from` ends, and returns the number of bytes written by all calls.
    ///
    /// # Errors
    /// The first error of either connection.
    ///
    /// # Cancel safety
    /// No data is lost or written twice: the next call continues where the dropped future stopped. Dropping
    /// the splicer loses the data in its pipe.
    pub async fn run(&mut self) -> io::Result<u64> {
        loop {
            self.drain().await?;
            if self.has_ended {
                return Ok(self.bytes_written);
            }
            let (writer, pipe_bytes, carried) = (&self.pipe.1, self.pipe_bytes, &mut self.carried);
            let fill = |from: &A::Io| {
                // The pipe is empty, so `WouldBlock` comes from the connection.
                let size = match splice(from.as_fd(), writer.as_fd(), pipe_bytes) {
                    // The kernel does not splice across urgent data: it reports the end of the stream
                    // or `WouldBlock`, even if more data is queued behind. A read passes it.
                    Ok(0) => STEP_BYTES,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => STEP_BYTES,
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => PLAIN_BYTES,
                    spliced => return Ok((spliced?, 0)),
                };
                Ok((0, read_into(carried, from, size)?))
            };
            let (n_spliced, n_read) = self.from.fd().async_io(Direction::Read, fill).await?;
            self.n_in_pipe = n_spliced;
            self.has_ended = n_spliced + n_read == 0;
        }
    }

    /// Writes all data that was read.
    async fn drain(&mut self) -> io::Result<()> {
        let mut reader = &self.pipe.0;
        loop {
            let n_written = if !self.carried.is_empty() {
                let n_written = byte_stream::write(self.to.fd(), &self.carried).await?;
                self.carried.drain(..n_written);
                n_written
            } else if self.n_in_pipe > 0 {
                let (n_in_pipe, no_signal) = (self.n_in_pipe, self.no_signal);
                let drain =
                    |to: &B::Io| no_signal.call(|| splice(reader.as_fd(), to.as_fd(), n_in_pipe));
                match self.to.fd().async_io(Direction::Write, drain).await {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                        // A sandbox was entered since the data was spliced into the pipe.
                        self.carried.resize(n_in_pipe.min(PLAIN_BYTES), 0);
                        let read = reader.read(&mut self.carried);
                        self.carried.truncate(*read.as_ref().unwrap_or(&0));
                        self.n_in_pipe -= read?;
                        continue;
                    }
                    moved => {
                        let n_written = moved?;
                        self.n_in_pipe -= n_written;
                        n_written
                    }
                }
            } else {
                return Ok(());
            };
            if n_written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.bytes_written += n_written as u64;
        }
    }

    /// Returns the number of bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }
}

/// Reads up to `size` bytes into `bytes`, which is empty.
fn read_into(bytes: &mut Vec<u8>, from: &impl TryRead, size: usize) -> io::Result<usize> {
    bytes.resize(size, 0);
    let n_read = from.try_read(bytes);
    bytes.truncate(*n_read.as_ref().unwrap_or(&0));
    n_read
}

impl<A, B> fmt::Debug for Splicer<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splicer")
            .field("bytes_written", &self.bytes_written)
            .field("n_in_pipe", &self.n_in_pipe)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
