//! Copying from one stream to another, one way and both ways.

use std::fmt;
use std::io;

use polyloop_executor::try_join;

use super::buffer::Buffer;
use super::{Read, Write};

/// How much is copied at once: large enough that a system call moves much, small enough that
/// thousands of copies at the same time are no burden.
const BUFFER_BYTES: usize = 32 * 1_024;

/// Copies everything from `reader` to `writer`, to the end. Returns the number of bytes.
///
/// `writer` is not [shut down](Write::shutdown).
///
/// # Errors
/// What either stream says.
///
/// # Cancel safety
/// What was read and not yet written is lost with the future. A [`Copier`] can be gone on with.
///
/// # Examples
/// An echo:
/// ```
/// use polyloop::io::copy;
/// use polyloop::net::UnixStream;
/// use std::net::Shutdown;
///
/// # polyloop::run(async {
/// let (client, server) = UnixStream::pair()?;
/// client.write_all(b"hello").await?;
/// client.shutdown(Shutdown::Write)?;
/// assert_eq!(copy(&server, &server).await?, 5);
///
/// let mut buf = [0; 5];
/// client.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub async fn copy(reader: impl Read, writer: impl Write) -> io::Result<u64> {
    Copier::new(reader, writer).run().await
}

/// Copies in both directions, until both have ended. Returns the numbers of bytes, from `a` to
/// `b` and from `b` to `a`.
///
/// When one direction ends, its writer is [shut down](Write::shutdown), and the other goes on.
/// The first error ends both.
///
/// # Errors
/// What either stream says.
///
/// # Cancel safety
/// What was read and not yet written is lost with the future. Two [`Copier`]s can be gone on
/// with.
///
/// # Examples
/// A proxy for one connection:
/// ```no_run
/// use polyloop::io::copy_bidirectional;
/// use polyloop::net::{TcpListener, TcpStream};
///
/// # polyloop::run(async {
/// let listener = TcpListener::bind("127.0.0.1:8000")?;
/// let (client, _) = listener.accept().await?;
/// let server = TcpStream::connect("example.org:80").await?;
/// let (n_up, n_down) = copy_bidirectional(&client, &server).await?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub async fn copy_bidirectional<'a, A, B>(a: &'a A, b: &'a B) -> io::Result<(u64, u64)>
where
    &'a A: Read + Write,
    &'a B: Read + Write,
{
    try_join!(copy_and_shut_down(a, b), copy_and_shut_down(b, a))
}

async fn copy_and_shut_down(reader: impl Read, mut writer: impl Write) -> io::Result<u64> {
    let n_bytes = copy(reader, &mut writer).await?;
    writer.shutdown().await?;
    Ok(n_bytes)
}

/// Copies from one stream to another, and can be stopped and gone on with at any time.
///
/// While it waits for a stream of this crate, with nothing to be written, it holds no buffer.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use polyloop::io::Copier;
/// use polyloop::net::pipe;
///
/// # polyloop::run(async {
/// let (from, to_from) = pipe()?;
/// to_from.write_all(b"hello").await?;
/// let mut copier = Copier::new(from, Vec::new());
///
/// // It waits for more; what came so far is not lost.
/// let late = polyloop::timeout(Duration::from_millis(1), copier.run()).await;
/// assert!(late.is_err());
/// assert_eq!(copier.n_bytes(), 5);
///
/// to_from.write_all(b", world").await?;
/// drop(to_from);
/// assert_eq!(copier.run().await?, 12);
/// let (_, copied, unwritten) = copier.into_parts();
/// assert_eq!((&copied[..], &unwritten[..]), (&b"hello, world"[..], &b""[..]));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct Copier<R, W> {
    reader: R,
    writer: W,
    /// What was read and not yet written.
    buffer: Buffer,
    n_bytes: u64,
    has_ended: bool,
}

impl<R: Read, W: Write> Copier<R, W> {
    /// Prepares to copy; nothing is read yet.
    pub fn new(reader: R, writer: W) -> Copier<R, W> {
        Copier { reader, writer, buffer: Buffer::default(), n_bytes: 0, has_ended: false }
    }

    /// Copies to the end, and returns the number of bytes that were written since the beginning.
    ///
    /// # Errors
    /// What either stream says. What was read and not yet written is kept: if the error passes,
    /// it can be called again.
    ///
    /// # Cancel safety
    /// No byte is lost or doubled: the next call goes on.
    pub async fn run(&mut self) -> io::Result<u64> {
        loop {
            while self.buffer.len() > 0 {
                match self.writer.write(self.buffer.filled()).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => {
                        self.buffer.take(n);
                        self.n_bytes += n as u64;
                    }
                }
            }
            if self.has_ended {
                return Ok(self.n_bytes);
            }
            let reader = &mut self.reader;
            let n = self.buffer.read_from(reader, BUFFER_BYTES, BUFFER_BYTES).await?;
            self.has_ended = n == 0;
        }
    }

    /// Returns the number of bytes that were written so far.
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Gives back the streams, and what was read from one and not yet written to the other.
    pub fn into_parts(self) -> (R, W, Vec<u8>) {
        let unwritten = self.buffer.filled().to_vec();
        (self.reader, self.writer, unwritten)
    }
}

impl<R, W> fmt::Debug for Copier<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copier")
            .field("n_bytes", &self.n_bytes)
            .field("n_unwritten", &self.buffer.len())
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
