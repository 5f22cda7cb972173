//! Length-prefixed messages over a byte stream.

use std::fmt;
use std::future::poll_fn;
use std::io;

use polyloop_executor::poll_proceed;

use super::buffer::Buffer;
use super::{BufReader, Read, TooLong, Write};

/// The default limit of a frame in bytes, so that a peer cannot exhaust memory.
const DEFAULT_LIMIT: usize = 1 << 20;

/// The format of the length in front of a frame, and the maximum length.
///
/// # Examples
/// ```
/// use polyloop::io::Framing;
///
/// let framing = Framing::big_endian(2).with_limit(1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Invariant: 1 to 8.
    n_length_bytes: usize,
    is_big_endian: bool,
    limit: usize,
}

impl Framing {
    /// Encodes the length in `length_bytes` bytes in big-endian order.
    ///
    /// # Panics
    /// Panics if `length_bytes` is not between 1 and 8.
    #[track_caller]
    pub fn big_endian(length_bytes: usize) -> Framing {
        assert!((1..=8).contains(&length_bytes), "a length has one to eight bytes");
        Framing { n_length_bytes: length_bytes, is_big_endian: true, limit: DEFAULT_LIMIT }
    }

    /// Encodes the length in `length_bytes` bytes in little-endian order.
    ///
    /// # Panics
    /// Panics if `length_bytes` is not between 1 and 8.
    #[track_caller]
    pub fn little_endian(length_bytes: usize) -> Framing {
        Framing { is_big_endian: false, ..Framing::big_endian(length_bytes) }
    }

    /// Sets the maximum length of a frame in bytes; the default is 1 MiB.
    ///
    /// A longer frame is refused before it is read.
    pub fn with_limit(mut self, max_bytes: usize) -> Framing {
        self.limit = max_bytes;
        self
    }

    /// Decodes the length in front of a frame.
    fn decode(self, bytes: &[u8]) -> io::Result<usize> {
        let mut wide = [0; 8];
        let n_length_bytes = self.n_length_bytes;
        let length = if self.is_big_endian {
            wide[8 - n_length_bytes..].copy_from_slice(bytes);
            u64::from_be_bytes(wide)
        } else {
            wide[..n_length_bytes].copy_from_slice(bytes);
            u64::from_le_bytes(wide)
        };
        let within = usize::try_from(length).ok().filter(|length| *length <= self.limit);
        within.ok_or_else(|| TooLong::frame(self.limit, length).into())
    }

    /// Appends the length and the frame to `out`.
    fn encode(self, frame: &[u8], out: &mut Buffer) -> io::Result<()> {
        let mut length = (frame.len() as u64).to_be_bytes();
        let (unused, used) = length.split_at_mut(8 - self.n_length_bytes);
        if frame.len() > self.limit || unused.iter().any(|byte| *byte != 0) {
            let message = format!("a frame of {} bytes exceeds the limit", frame.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if !self.is_big_endian {
            used.reverse();
        }
        out.extend(used);
        out.extend(frame);
        Ok(())
    }
}

impl Default for Framing {
    /// Uses four bytes in big-endian order.
    fn default() -> Framing {
        Framing::big_endian(4)
    }
}

/// Reads length-prefixed frames from a byte stream.
///
/// # Examples
/// ```
/// use polyloop::io::{FrameReader, FrameWriter, Framing};
/// use polyloop::net::pipe;
///
/// # polyloop::run(async {
/// let (reader, writer) = pipe()?;
/// let mut frames = FrameWriter::new(writer, Framing::default());
/// frames.queue(b"first")?;
/// frames.queue(b"")?;
/// frames.flush().await?;
/// drop(frames);
///
/// let mut frames = FrameReader::new(reader, Framing::default());
/// assert_eq!(frames.next().await?, Some(&b"first"[..]));
/// assert_eq!(frames.next().await?, Some(&b""[..]));
/// assert_eq!(frames.next().await?, None);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[doc(alias = "LengthDelimitedCodec")]
pub struct FrameReader<R> {
    reader: BufReader<R>,
    framing: Framing,
    /// An error occurred, so the start of the next frame is unknown.
    has_ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Creates a reader of frames.
    pub fn new(reader: R, framing: Framing) -> FrameReader<R> {
        let limit = framing.limit.saturating_add(framing.n_length_bytes);
        FrameReader { reader: BufReader::with_limit(reader, limit), framing, has_ended: false }
    }

    /// Returns the next frame, or `None` at the end of the stream.
    ///
    /// The frame is borrowed from the buffer of the reader.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData), with [`TooLong`] as its source, if a frame is longer than
    /// the limit; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream ends inside a frame;
    /// otherwise the error of the stream.
    ///
    /// After the first two, the method returns `None`. Unlike a line, a frame has no terminator to search
    /// for: a peer that sends a length above the limit may speak another protocol, and the bytes that follow
    /// would be read as lengths. [`into_parts`](FrameReader::into_parts) returns the unread data from that
    /// length on.
    ///
    /// # Cancel safety
    /// No data is lost.
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let n_bytes = if self.has_ended { None } else { self.fill_frame().await? };
        let Some(n_bytes) = n_bytes else {
            // Takes from the budget: otherwise a loop that ignores the end would never yield.
            poll_fn(poll_proceed).await;
            return Ok(None);
        };
        Ok(Some(&self.reader.take(n_bytes)[self.framing.n_length_bytes..]))
    }

    /// Reads until a frame is buffered, and returns its size including the length in front.
    async fn fill_frame(&mut self) -> io::Result<Option<usize>> {
        let n_length_bytes = self.framing.n_length_bytes;
        if !self.reader.fill_to(n_length_bytes).await? {
            self.has_ended = !self.reader.buffer().is_empty();
            return if self.has_ended {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(None)
            };
        }
        let length = self.framing.decode(&self.reader.buffer()[..n_length_bytes]);
        self.has_ended = length.is_err();
        let n_bytes = n_length_bytes.saturating_add(length?);
        if !self.reader.fill_to(n_bytes).await? {
            self.has_ended = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(n_bytes))
    }

    /// Returns the stream, and the data that was read and not yet returned.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        self.reader.into_parts()
    }
}

impl<R> fmt::Debug for FrameReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("reader", &self.reader)
            .field("framing", &self.framing)
            .finish()
    }
}

/// Writes length-prefixed frames to a byte stream.
///
/// [`queue`](FrameWriter::queue) adds a frame to a buffer, and [`flush`](FrameWriter::flush) writes the
/// buffer. So a frame is queued exactly once, even if a future is dropped. See [`FrameReader`] for an example.
///
/// It holds a buffer only while frames are queued, of at most a few times their size.
#[doc(alias = "LengthDelimitedCodec")]
pub struct FrameWriter<W> {
    writer: W,
    framing: Framing,
    /// Data that is queued and not yet written.
    out: Buffer,
}

impl<W: Write> FrameWriter<W> {
    /// Creates a writer of frames.
    pub fn new(writer: W, framing: Framing) -> FrameWriter<W> {
        FrameWriter { writer, framing, out: Buffer::default() }
    }

    /// Queues a frame, which stays in memory until [`flush`](FrameWriter::flush) has written it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the frame is longer than the limit, or than its length
    /// field can represent. It is then not queued.
    pub fn queue(&mut self, frame: &[u8]) -> io::Result<()> {
        self.framing.encode(frame, &mut self.out)
    }

    /// Returns the number of bytes that are queued and not yet written.
    pub fn queued_bytes(&self) -> usize {
        self.out.len()
    }

    /// Writes all queued frames.
    ///
    /// # Errors
    /// The error of the stream. Data that is not written remains queued.
    ///
    /// # Cancel safety
    /// No data is lost or written twice: the next call continues where the dropped future stopped, even
    /// inside a frame.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.out.len() > 0 {
            match self.writer.write(self.out.filled()).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.out.take(n),
            };
        }
        self.out.shrink();
        Ok(())
    }

    /// Writes all queued frames, and then shuts down the write direction of the stream.
    ///
    /// # Errors
    /// As for [`flush`](FrameWriter::flush).
    ///
    /// # Cancel safety
    /// As for [`flush`](FrameWriter::flush); the method can be called again.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.writer.shutdown().await
    }

    /// Returns the stream, and the data that is not yet written.
    pub fn into_parts(self) -> (W, Vec<u8>) {
        (self.writer, self.out.filled().to_vec())
    }
}

impl<W> fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("framing", &self.framing)
            .field("queued_bytes", &self.out.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_decoded_as_they_are_encoded() {
        for n in 1..=8 {
            for framing in [Framing::big_endian(n), Framing::little_endian(n)] {
                for length in [0, 1, 2, 255] {
                    let mut out = Buffer::default();
                    framing.encode(&vec![7; length], &mut out).unwrap();
                    assert_eq!(out.len(), n + length);
                    assert_eq!(framing.decode(&out.filled()[..n]).unwrap(), length);
                }
            }
        }
        let mut out = Buffer::default();
        Framing::little_endian(2).encode(&[7; 258], &mut out).unwrap();
        assert_eq!(out.filled()[..2], [2, 1]);
    }

    #[test]
    fn a_frame_that_its_length_field_cannot_represent_is_refused() {
        let mut out = Buffer::default();
        let error = Framing::big_endian(1).encode(&[0; 256], &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(Framing::default().with_limit(3).encode(&[0; 4], &mut out).is_err());
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn a_huge_length_is_refused_before_memory_is_allocated() {
        for framing in
            [Framing::big_endian(8), Framing::little_endian(8).with_limit(usize::MAX - 1)]
        {
            let error = framing.decode(&[0xff; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
