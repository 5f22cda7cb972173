//! Copying from one stream to another, in one direction or both.

use std::fmt;
use std::io;

use polyloop_executor::try_join;

use super::buffer::Buffer;
use super::{Read, Write};

/// The number of bytes copied at once: a compromise between few system calls and little memory for
/// thousands of concurrent copies.
const BUFFER_BYTES: usize = 32 * 1_024;

/// Copies from `reader` to `writer` until the reader ends, and returns the number of bytes copied.
///
/// Does not [shut down](Write::shutdown) the writer.
///
/// # Errors
/// The first error of either stream.
///
/// # Cancel safety
/// If the future is dropped before it completes, data that was read and not yet written is lost. Use a
/// [`Copier`] to be able to continue.
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

/// Copies in both directions between `a` and `b` until both have ended.
///
/// Returns the number of bytes copied from `a` to `b` and from `b` to `a`. When one direction ends, its
/// writer is [shut down](Write::shutdown) and the other direction continues.
///
/// # Errors
/// The first error of either stream, which ends both directions.
///
/// # Cancel safety
/// If the future is dropped before it completes, data that was read and not yet written is lost. Use two
/// [`Copier`]s to be able to continue.
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

/// Copies from one stream to another, and can be interrupted and continued at any time.
///
/// While it waits for a stream of this crate and has nothing to write, it holds no buffer.
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
/// // The timeout interrupts the copy. No data is lost.
/// let late = polyloop::timeout(Duration::from_millis(1), copier.run()).await;
/// assert!(late.is_err());
/// assert_eq!(copier.bytes_written(), 5);
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
    /// Data that was read and is not yet written.
    buffer: Buffer,
    bytes_written: u64,
    has_ended: bool,
}

impl<R: Read, W: Write> Copier<R, W> {
    /// Creates a copier. It does not read before [`run`](Copier::run).
    pub fn new(reader: R, writer: W) -> Copier<R, W> {
        Copier { reader, writer, buffer: Buffer::default(), bytes_written: 0, has_ended: false }
    }

    /// Copies until the reader ends, and returns the number of bytes written by all calls.
    ///
    /// # Errors
    /// The first error of either stream. Data that was read and not yet written is kept, so the method can
    /// be called again after a temporary error.
    ///
    /// # Cancel safety
    /// No data is lost or written twice: the next call continues where the dropped future stopped.
    pub async fn run(&mut self) -> io::Result<u64> {
        loop {
            while self.buffer.len() > 0 {
                match self.writer.write(self.buffer.filled()).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => {
                        self.buffer.take(n);
                        self.bytes_written += n as u64;
                    }
                }
            }
            if self.has_ended {
                return Ok(self.bytes_written);
            }
            let reader = &mut self.reader;
            let n = self.buffer.read_from(reader, BUFFER_BYTES, BUFFER_BYTES).await?;
            self.has_ended = n == 0;
        }
    }

    /// Returns the number of bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Returns the streams, and the data that was read and is not yet written.
    pub fn into_parts(self) -> (R, W, Vec<u8>) {
        let unwritten = self.buffer.filled().to_vec();
        (self.reader, self.writer, unwritten)
    }
}

impl<R, W> fmt::Debug for Copier<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copier")
            .field("bytes_written", &self.bytes_written)
            .field("n_unwritten", &self.buffer.len())
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
