//! Copying between sockets without leaving the kernel.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;

use polyloop_reactor::Direction;
use polyloop_reactor::socket::{NoSignal, set_pipe_size, splice};
use socket2::SockRef;

use crate::Connection;
use crate::byte_stream::{self, TryRead};

/// What the pipe should hold, and so the most that is moved at once.
///
/// The most that Linux gives everybody (`fs.pipe-max-size`). Over loopback, half a gibibyte then
/// takes 0.35 to 0.5 times the processor of a `Copier`; with the usual 64 KiB it takes as much.
const PIPE_BYTES: usize = 1 << 20;

/// What a pipe holds that was not asked for more.
const DEFAULT_PIPE_BYTES: usize = 64 * 1_024;

/// The most that is read to step over urgent data: what follows is spliced again.
const STEP_BYTES: usize = 512;

/// The most that is read at once where the kernel refuses to splice.
const PLAIN_BYTES: usize = 16 * 1_024;

/// Copies from one connection to another inside the kernel, through a pipe.
///
/// It saves the two copies between kernel and program, and costs a second system call for each
/// move, and two descriptors for the pipe. For messages a [`Copier`](super::Copier) is better; for
/// bulk this takes about half of the processor. Like a `Copier` it can be stopped and gone on
/// with.
///
/// Urgent data of TCP is passed over, as by reading.
///
/// # Platform
/// Linux. In a sandbox that refuses splice(2) the bytes are copied through the program. Writing to a peer that is gone is an error, never a `SIGPIPE`; where the process does not
/// ignore that signal anyway, that takes two more system calls for each move.
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
pub struct Splicer<'a, A, B> {
    from: &'a A,
    to: &'a B,
    pipe: (io::PipeReader, io::PipeWriter),
    pipe_bytes: usize,
    n_in_pipe: usize,
    /// Bytes that were read instead of spliced. They come before those in the pipe.
    carried: Vec<u8>,
    n_bytes: u64,
    has_ended: bool,
    no_signal: NoSignal,
}

impl<'a, A: Connection, B: Connection> Splicer<'a, A, B> {
    /// Prepares to copy; nothing is read yet.
    ///
    /// # Errors
    /// What the system says, such as having no descriptor left for the pipe.
    pub fn new(from: &'a A, to: &'a B) -> io::Result<Splicer<'a, A, B>> {
        let pipe = io::pipe()?;
        SockRef::from(&pipe.0).set_nonblocking(true)?;
        SockRef::from(&pipe.1).set_nonblocking(true)?;
        // Whoever has many large pipes already gets a small one, which works as well.
        let pipe_bytes = set_pipe_size(pipe.1.as_fd(), PIPE_BYTES).unwrap_or(DEFAULT_PIPE_BYTES);
        Ok(Splicer {
            from,
            to,
            pipe,
            pipe_bytes,
            n_in_pipe: 0,
            carried: Vec::new(),
            n_bytes: 0,
            has_ended: false,
            no_signal: NoSignal::new(),
        })
    }

    /// Copies to the end, and returns the number of bytes that were written since the beginning.
    ///
    /// # Errors
    /// What either connection says.
    ///
    /// # Cancel safety
    /// No byte is lost or doubled: the next call goes on. Dropping the splicer itself loses what
    /// is in its pipe.
    pub async fn run(&mut self) -> io::Result<u64> {
        loop {
            self.drain().await?;
            if self.has_ended {
                return Ok(self.n_bytes);
            }
            let (writer, pipe_bytes, carried) = (&self.pipe.1, self.pipe_bytes, &mut self.carried);
            let fill = |from: &A::Io| {
                // The pipe is empty, so it is the connection that would block.
                let size = match splice(from.as_fd(), writer.as_fd(), pipe_bytes) {
                    // The kernel does not splice across urgent data: there it reports the end or that
                    // nothing is there, whatever is queued behind. Reading goes on behind it.
                    Ok(0) => STEP_BYTES,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => STEP_BYTES,
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => PLAIN_BYTES,
                    spliced => return Ok((spliced?, 0)),
                };
                Ok((0, receive_into(carried, from, size)?))
            };
            let (n_spliced, n_read) = self.from.fd().async_io(Direction::Read, fill).await?;
            self.n_in_pipe = n_spliced;
            self.has_ended = n_spliced + n_read == 0;
        }
    }

    /// Writes all that is on the way.
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
                        // A sandbox was set up meanwhile.
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
            self.n_bytes += n_written as u64;
        }
    }

    /// Returns the number of bytes that were written so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }
}

/// Reads into `bytes`, which is empty, up to `size`.
fn receive_into(bytes: &mut Vec<u8>, from: &impl TryRead, size: usize) -> io::Result<usize> {
    bytes.resize(size, 0);
    let received = from.try_read(bytes);
    bytes.truncate(*received.as_ref().unwrap_or(&0));
    received
}

impl<A, B> fmt::Debug for Splicer<'_, A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Splicer")
            .field("n_bytes", &self.n_bytes)
            .field("n_in_pipe", &self.n_in_pipe)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
