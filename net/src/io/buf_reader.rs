//! Reading in units that are not known before: lines, and whatever ends with a delimiter.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::str;

use polyloop_executor::poll_proceed;

use super::buffer::Buffer;
use super::find::find;
use super::spare::USUAL_BYTES;
use super::{Lines, Read, Split, TooLong, parts};

/// The longest line, unless one's own limit is set: what a peer sends must not fill the memory.
const DEFAULT_LIMIT: usize = 1 << 20;

/// Reads ahead, and hands out lines or what else is asked for.
///
/// What was read and not yet handed out stays in it. The slices that it hands out are parts of its
/// buffer, good until the next call.
///
/// It has a buffer only while something is in it: one that waits for a stream of this crate with
/// nothing buffered holds none. Buffers are kept for the next reader on the same thread, up to a
/// few mebibytes in all.
///
/// # Examples
/// ```
/// use polyloop::io::BufReader;
/// use polyloop::net::pipe;
///
/// # polyloop::run(async {
/// let (reader, writer) = pipe()?;
/// writer.write_all(b"first\r\nsecond\nno end").await?;
/// drop(writer);
///
/// let mut reader = BufReader::new(reader);
/// assert_eq!(reader.next_line().await?, Some("first"));
/// assert_eq!(reader.next_line().await?, Some("second"));
/// assert_eq!(reader.next_line().await?, Some("no end"));
/// assert_eq!(reader.next_line().await?, None);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
pub struct BufReader<R> {
    reader: R,
    /// What was read and not yet handed out.
    buffer: Buffer,
    /// How much of that is known not to hold the delimiter.
    n_searched: usize,
    /// The delimiter that was searched for.
    delimiter: u8,
    limit: usize,
    /// A part that was reported as too long and whose end has not been read yet.
    overlong: Option<Overlong>,
}

/// A part that is being discarded: what is buffered belongs to it.
struct Overlong {
    /// What it ends with.
    delimiter: u8,
    /// The byte behind the buffered ones, which has shown that they are not all. None once the
    /// discarding has begun.
    next: Option<u8>,
}

impl<R: Read> BufReader<R> {
    /// Wraps `reader`; lines may have up to a mebibyte.
    pub fn new(reader: R) -> BufReader<R> {
        BufReader::with_limit(reader, DEFAULT_LIMIT)
    }

    /// Wraps `reader`, with a custom limit to a line, in bytes and with its end.
    ///
    /// A longer line is an error, [`TooLong`]. What lies before its end is then discarded, which needs
    /// no memory, and the line behind it can be read. No more than `limit` bytes are ever buffered.
    pub fn with_limit(reader: R, limit: usize) -> BufReader<R> {
        let (buffer, limit) = (Buffer::default(), limit.max(1));
        BufReader { reader, buffer, n_searched: 0, delimiter: 0, limit, overlong: None }
    }

    /// Lends the stream that is read.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Gives the stream back, and what was read of it and not yet handed out.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        let mut rest = self.buffered().to_vec();
        rest.extend(self.overlong.and_then(|overlong| overlong.next));
        (self.reader, rest)
    }

    /// Lends what was read and not yet handed out.
    ///
    /// After the error [`TooLong`] that is the beginning of the line, until the next call that reads.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.filled()
    }

    /// Takes `n_bytes` of what is [buffered](BufReader::buffered) as handed out.
    ///
    /// # Panics
    /// If there are fewer.
    #[track_caller]
    pub fn consume(&mut self, n_bytes: usize) {
        assert!(n_bytes <= self.buffer.len(), "more is consumed than was read");
        self.take(n_bytes);
        if self.overlong.is_some() {
            // What is to be discarded is not searched.
            self.n_searched = self.buffer.len();
        }
    }

    /// Reads something unless something is buffered, and lends it. Nothing is the end.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub async fn fill(&mut self) -> io::Result<&[u8]> {
        if self.overlong.is_some() && !self.discard().await? {
            return Ok(&[]);
        }
        if self.buffer.len() == 0 {
            self.read_more().await?;
        } else {
            poll_fn(poll_proceed).await;
        }
        Ok(self.buffered())
    }

    /// Reads until at least `n_bytes` are buffered. False if the stream ends before that.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) if that is more than the limit; what the
    /// stream says.
    ///
    /// # Cancel safety
    /// No byte is lost.
    pub async fn fill_to(&mut self, n_bytes: usize) -> io::Result<bool> {
        // What is there already takes from the budget, too, or a loop over it would never yield.
        poll_fn(poll_proceed).await;
        if self.overlong.is_some() && !self.discard().await? {
            return Ok(n_bytes == 0);
        }
        while self.buffer.len() < n_bytes {
            if self.buffer.len() == self.limit {
                return Err(TooLong::without_end(self.limit).into());
            }
            if self.read_more().await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Hands out everything up to and with the next `delimiter`; at the end of the stream, what is
    /// left without one; and then nothing.
    ///
    /// # Errors
    /// [`TooLong`] if there is none within the limit: reported once, and the next call discards
    /// everything up to and with that delimiter before it reads on. What the stream says.
    ///
    /// # Cancel safety
    /// No byte is lost, and no byte behind a part that is too long is discarded.
    pub async fn read_until(&mut self, delimiter: u8) -> io::Result<Option<&[u8]>> {
        // A loop over parts that are in memory already would never yield otherwise.
        poll_fn(poll_proceed).await;
        let n_bytes = match self.find(delimiter) {
            Some(n_bytes) => n_bytes,
            None => self.read_to(delimiter).await?,
        };
        if n_bytes == 0 {
            return Ok(None);
        }
        Ok(Some(self.take(n_bytes)))
    }

    /// Hands out the next line, without its end (`\n` or `\r\n`); none at the end of the stream.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) if the line is longer than the limit, which is
    /// [`TooLong`], or not UTF-8. Either is reported once, and the next call returns the line behind
    /// it; the rest of a line that is too long is discarded then. What the stream says.
    ///
    /// # Cancel safety
    /// No byte is lost, and no byte behind a line that is too long is discarded.
    pub async fn next_line(&mut self) -> io::Result<Option<&str>> {
        let Some(line) = self.read_until(b'\n').await? else { return Ok(None) };
        let line = line
            .strip_suffix(b"\n")
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .unwrap_or(line);
        match str::from_utf8(line) {
            Ok(line) => Ok(Some(line)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Returns the lines as a stream. [`next_line`](BufReader::next_line) hands the same ones out
    /// without allocating.
    ///
    /// # Examples
    /// ```
    /// use std::future::poll_fn;
    /// use std::pin::pin;
    /// use polyloop::Stream;
    /// use polyloop::io::BufReader;
    ///
    /// # polyloop::run(async {
    /// let mut reader = BufReader::new(&b"first\r\nsecond\n"[..]);
    /// let mut lines = pin!(reader.lines());
    /// let mut seen = Vec::new();
    /// while let Some(line) = poll_fn(|cx| lines.as_mut().poll_next(cx)).await {
    ///     seen.push(line?);
    /// }
    /// assert_eq!(seen, ["first", "second"]);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap().unwrap();
    /// ```
    pub fn lines(&mut self) -> Lines<'_, R> {
        parts::lines(self)
    }

    /// Returns what is between delimiters as a stream, without them. What follows the last one is
    /// a part of its own, unless it is empty.
    pub fn split(&mut self, delimiter: u8) -> Split<'_, R> {
        parts::split(self, delimiter)
    }

    /// Searches what is buffered for `delimiter`; returns the length of what ends with it.
    pub(super) fn find(&mut self, delimiter: u8) -> Option<usize> {
        if self.delimiter != delimiter {
            self.delimiter = delimiter;
            // What is to be discarded is not searched again, whatever for.
            self.n_searched = if self.overlong.is_some() { self.buffer.len() } else { 0 };
        }
        let new = &self.buffer.filled()[self.n_searched..];
        match find(delimiter, new) {
            Some(place) => Some(self.n_searched + place + 1),
            None => {
                self.n_searched += new.len();
                None
            }
        }
    }

    /// Reads until `delimiter` is buffered; returns the length of what ends with it, or of what is
    /// left at the end of the stream.
    pub(super) async fn read_to(&mut self, delimiter: u8) -> io::Result<usize> {
        if self.overlong.is_some() {
            if !self.discard().await? {
                return Ok(0);
            }
            if let Some(n_bytes) = self.find(delimiter) {
                return Ok(n_bytes);
            }
        }
        loop {
            if self.buffer.len() == self.limit {
                // One byte more tells a part that ends here, with the stream, from one that is longer.
                let mut next = [0];
                if self.reader.read(&mut next).await? > 0 {
                    self.overlong = Some(Overlong { delimiter, next: Some(next[0]) });
                    return Err(TooLong::without_end(self.limit).into());
                }
                return Ok(self.limit);
            }
            if self.read_more().await? == 0 {
                return Ok(self.buffer.len());
            }
            if let Some(n_bytes) = self.find(delimiter) {
                return Ok(n_bytes);
            }
        }
    }

    /// Hands out `n_bytes` of what is buffered.
    pub(super) fn take(&mut self, n_bytes: usize) -> &[u8] {
        self.n_searched = 0;
        self.buffer.take(n_bytes)
    }

    /// Discards what is left of a part that was reported as too long. False if the stream ends
    /// before that part does.
    ///
    /// # Cancel safety
    /// The next call goes on.
    async fn discard(&mut self) -> io::Result<bool> {
        let Some(overlong) = &mut self.overlong else { return Ok(true) };
        let delimiter = overlong.delimiter;
        let mut has_ended = false;
        if let Some(next) = overlong.next.take() {
            self.take(self.buffer.len());
            // It was as large as the limit.
            self.buffer.shrink();
            has_ended = next == delimiter;
        }
        while !has_ended {
            // A reader that is always ready would never let others run: there is no limit here.
            poll_fn(poll_proceed).await;
            if self.read_more().await? == 0 {
                self.overlong = None;
                return Ok(false);
            }
            let place = find(delimiter, self.buffer.filled());
            has_ended = place.is_some();
            self.take(place.map_or(self.buffer.len(), |place| place + 1));
        }
        self.overlong = None;
        Ok(true)
    }

    /// Reads once, behind what is buffered, which is less than the limit. Zero is the end.
    async fn read_more(&mut self) -> io::Result<usize> {
        self.buffer.read_from(&mut self.reader, USUAL_BYTES, self.limit).await
    }
}

impl<R: Read> Read for BufReader<R> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            poll_fn(poll_proceed).await;
            return Ok(0);
        }
        let buffered = self.fill().await?;
        let n_bytes = buffered.len().min(buf.len());
        buf[..n_bytes].copy_from_slice(&buffered[..n_bytes]);
        self.consume(n_bytes);
        Ok(n_bytes)
    }

    async fn readable(&mut self) -> io::Result<()> {
        if self.buffer.len() > 0 && self.overlong.is_none() {
            return Ok(());
        }
        self.reader.readable().await
    }
}

impl<R> fmt::Debug for BufReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufReader")
            .field("n_buffered", &self.buffer.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
