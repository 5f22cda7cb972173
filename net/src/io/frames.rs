//! Messages over a stream of bytes, each with its length in front.

use std::fmt;
use std::future::poll_fn;
use std::io;

use polyloop_executor::poll_proceed;

use super::buffer::Buffer;
use super::{BufReader, Read, TooLong, Write};

/// The longest frame, unless one's own limit is set: what a peer sends must not fill the memory.
const DEFAULT_LIMIT: usize = 1 << 20;

/// Says what stands in front of a frame: its length, in how many bytes, in which order.
///
/// # Examples
/// ```
/// use polyloop::io::Framing;
///
/// let framing = Framing::big_endian(2).limit(1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Invariant: 1 to 8.
    n_length_bytes: usize,
    is_big_endian: bool,
    limit: usize,
}

impl Framing {
    /// Puts the length in front in `n_length_bytes` bytes, the highest first.
    ///
    /// # Panics
    /// Unless there are one to eight.
    #[track_caller]
    pub fn big_endian(n_length_bytes: usize) -> Framing {
        assert!((1..=8).contains(&n_length_bytes), "a length has one to eight bytes");
        Framing { n_length_bytes, is_big_endian: true, limit: DEFAULT_LIMIT }
    }

    /// Puts the length in front in `n_length_bytes` bytes, the lowest first.
    ///
    /// # Panics
    /// Unless there are one to eight.
    #[track_caller]
    pub fn little_endian(n_length_bytes: usize) -> Framing {
        Framing { is_big_endian: false, ..Framing::big_endian(n_length_bytes) }
    }

    /// Bounds a frame: a mebibyte by default. A longer one is an error, before it is read.
    pub fn limit(mut self, max_bytes: usize) -> Framing {
        self.limit = max_bytes;
        self
    }

    /// Reads the length of a frame from the bytes in front of it.
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

    /// Appends a frame and its length to `out`.
    fn encode(self, frame: &[u8], out: &mut Buffer) -> io::Result<()> {
        let mut length = (frame.len() as u64).to_be_bytes();
        let (unused, used) = length.split_at_mut(8 - self.n_length_bytes);
        if frame.len() > self.limit || unused.iter().any(|byte| *byte != 0) {
            let message = format!("a frame of {} bytes is too long", frame.len());
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
    /// Four bytes, the highest first.
    fn default() -> Framing {
        Framing::big_endian(4)
    }
}

/// Reads frames from a stream.
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
pub struct FrameReader<R> {
    reader: BufReader<R>,
    framing: Framing,
    /// An error has shown that it is not known where the next frame begins.
    has_ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Wraps `reader`.
    pub fn new(reader: R, framing: Framing) -> FrameReader<R> {
        let limit = framing.limit.saturating_add(framing.n_length_bytes);
        FrameReader { reader: BufReader::with_limit(reader, limit), framing, has_ended: false }
    }

    /// Hands out the next frame, good until the next call; none at the end of the stream.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData), which is [`TooLong`], if a frame is longer than the
    /// limit; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof) if the stream ends inside one; what the
    /// stream says.
    ///
    /// The first two are reported once, and from then on there is no further frame. Unlike a line, a
    /// frame has no end that could be searched for: a peer that states a length over the limit may
    /// speak another protocol, and what follows would be read as lengths. A caller that knows better
    /// has everything that was not handed out in [`into_parts`](FrameReader::into_parts), from the
    /// length of that frame on.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let n_bytes = if self.has_ended { None } else { self.fill_frame().await? };
        let Some(n_bytes) = n_bytes else {
            // Returning at once takes from the budget, too, or a loop around it would never yield.
            poll_fn(poll_proceed).await;
            return Ok(None);
        };
        Ok(Some(&self.reader.take(n_bytes)[self.framing.n_length_bytes..]))
    }

    /// Reads until a frame is buffered; returns its size with its length, or none at the end.
    async fn fill_frame(&mut self) -> io::Result<Option<usize>> {
        let n_length_bytes = self.framing.n_length_bytes;
        if !self.reader.fill_to(n_length_bytes).await? {
            self.has_ended = !self.reader.buffered().is_empty();
            return if self.has_ended {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(None)
            };
        }
        let length = self.framing.decode(&self.reader.buffered()[..n_length_bytes]);
        self.has_ended = length.is_err();
        let n_bytes = n_length_bytes.saturating_add(length?);
        if !self.reader.fill_to(n_bytes).await? {
            self.has_ended = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(n_bytes))
    }

    /// Gives the stream back, and what was read of it and not yet handed out.
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

/// Writes frames to a stream: queues them in memory, and writes the queue.
///
/// The two are apart so that it is always known whether a frame is on its way, even if a future
/// is dropped. See [`FrameReader`] for an example.
///
/// It has a buffer only while something is queued, of a few times that size at most.
pub struct FrameWriter<W> {
    writer: W,
    framing: Framing,
    /// What is queued and not yet written.
    out: Buffer,
}

impl<W: Write> FrameWriter<W> {
    /// Wraps `writer`.
    pub fn new(writer: W, framing: Framing) -> FrameWriter<W> {
        FrameWriter { writer, framing, out: Buffer::default() }
    }

    /// Puts a frame behind those that wait to be written.
    ///
    /// It is kept in memory until [`flush`](FrameWriter::flush) has written it.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is longer than the limit, or than its
    /// length can say; it is then not queued.
    pub fn queue(&mut self, frame: &[u8]) -> io::Result<()> {
        self.framing.encode(frame, &mut self.out)
    }

    /// Returns how many bytes wait to be written.
    pub fn n_queued(&self) -> usize {
        self.out.len()
    }

    /// Writes all that is queued.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Nothing is lost or doubled: the next call goes on, in the middle of a frame if need be.
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

    /// Writes all that is queued, and then tells the reader that no more will come.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// As for [`flush`](FrameWriter::flush); it may be called again.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.writer.shutdown().await
    }

    /// Gives the stream back, and what was not yet written to it.
    pub fn into_parts(self) -> (W, Vec<u8>) {
        (self.writer, self.out.filled().to_vec())
    }
}

impl<W> fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("framing", &self.framing)
            .field("n_queued", &self.out.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_they_are_read() {
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
    fn what_the_length_cannot_say_is_refused_and_not_written() {
        let mut out = Buffer::default();
        let error = Framing::big_endian(1).encode(&[0; 256], &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(Framing::default().limit(3).encode(&[0; 4], &mut out).is_err());
        assert_eq!(out.len(), 0);
    }

    #[test]
    fn a_gigantic_length_is_refused_before_anything_is_allocated() {
        for framing in [Framing::big_endian(8), Framing::little_endian(8).limit(usize::MAX - 1)] {
            let error = framing.decode(&[0xff; 8]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
