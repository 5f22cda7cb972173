//! Buffered reading: lines, and other parts that end with a delimiter.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::str;

use polyloop_executor::poll_proceed;

use super::buffer::Buffer;
use super::find::find;
use super::spare::USUAL_BYTES;
use super::{Lines, Read, Split, TooLong, parts};

/// The default limit of a line in bytes, so that a peer cannot exhaust memory.
const DEFAULT_LIMIT: usize = 1 << 20;

/// Adds buffering to a reader, and reads lines and other parts that end with a delimiter.
///
/// Lines and parts are borrowed from the buffer. Data that was read and not yet returned remains in the
/// reader.
///
/// A reader that waits for a stream of this crate holds a buffer only if it has buffered data. Unused
/// buffers are kept for the next reader on the same thread, up to a few MiB.
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
    /// Data that was read and not yet returned.
    buffer: Buffer,
    /// The length of the prefix of the buffer that does not contain the delimiter.
    n_searched: usize,
    /// The delimiter of the last search.
    delimiter: u8,
    limit: usize,
    /// A part that was reported as too long, and whose end was not read yet.
    overlong: Option<Overlong>,
}

/// A part that is being discarded. All buffered data belongs to it.
struct Overlong {
    /// The delimiter at its end.
    delimiter: u8,
    /// The byte behind the buffered data, which proved that the part is longer. `None` once discarding has
    /// started.
    next: Option<u8>,
}

impl<R: Read> BufReader<R> {
    /// Creates a reader with a limit of 1 MiB for a line.
    pub fn new(reader: R) -> BufReader<R> {
        BufReader::with_limit(reader, DEFAULT_LIMIT)
    }

    /// Creates a reader with a limit for a line, in bytes and including its terminator.
    ///
    /// A longer line is an error, [`TooLong`]. The rest of the line is then discarded, without buffering it,
    /// and the next line can be read. At most `limit` bytes are buffered.
    pub fn with_limit(reader: R, limit: usize) -> BufReader<R> {
        let (buffer, limit) = (Buffer::default(), limit.max(1));
        BufReader { reader, buffer, n_searched: 0, delimiter: 0, limit, overlong: None }
    }

    /// Returns the underlying stream.
    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// Returns the underlying stream, and the data that was read and not yet returned.
    pub fn into_parts(self) -> (R, Vec<u8>) {
        let mut rest = self.buffer().to_vec();
        rest.extend(self.overlong.and_then(|overlong| overlong.next));
        (self.reader, rest)
    }

    /// Returns the buffered data.
    ///
    /// After the error [`TooLong`] it is the start of the line, until the next call that reads.
    pub fn buffer(&self) -> &[u8] {
        self.buffer.filled()
    }

    /// Removes the first `amount` bytes from the [buffer](BufReader::buffer).
    ///
    /// # Panics
    /// Panics if the buffer holds fewer bytes.
    #[track_caller]
    pub fn consume(&mut self, amount: usize) {
        assert!(amount <= self.buffer.len(), "more is consumed than was read");
        self.take(amount);
        if self.overlong.is_some() {
            // Data to be discarded is not searched.
            self.n_searched = self.buffer.len();
        }
    }

    /// Returns the buffered data, and reads first if there is none. An empty slice means that the stream has
    /// ended.
    ///
    /// # Cancel safety
    /// No data is lost.
    pub async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.overlong.is_some() && !self.discard().await? {
            return Ok(&[]);
        }
        if self.buffer.len() == 0 {
            self.read_more().await?;
        } else {
            poll_fn(poll_proceed).await;
        }
        Ok(self.buffer())
    }

    /// Reads until at least `len` bytes are buffered. Returns `false` if the stream ends first.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData), with [`TooLong`] as its source, if `len` exceeds the
    /// limit; otherwise the error of the stream.
    ///
    /// # Cancel safety
    /// No data is lost.
    pub async fn fill_to(&mut self, len: usize) -> io::Result<bool> {
        // Without this, a loop over buffered data would never yield.
        poll_fn(poll_proceed).await;
        if self.overlong.is_some() && !self.discard().await? {
            return Ok(len == 0);
        }
        while self.buffer.len() < len {
            if self.buffer.len() == self.limit {
                return Err(TooLong::without_end(self.limit).into());
            }
            if self.read_more().await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the data up to and including the next `delimiter`.
    ///
    /// At the end of the stream, returns the remaining data without a delimiter, and then `None`.
    ///
    /// # Errors
    /// [`TooLong`] if there is no delimiter within the limit; the next call discards the data up to and
    /// including the delimiter before it continues. Otherwise the error of the stream.
    ///
    /// # Cancel safety
    /// No data is lost, and no data after a part that is too long is discarded.
    pub async fn read_until(&mut self, delimiter: u8) -> io::Result<Option<&[u8]>> {
        // Without this, a loop over buffered parts would never yield.
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

    /// Returns the next line without its terminator (`\n` or `\r\n`), or `None` at the end of the stream.
    ///
    /// # Errors
    /// [`InvalidData`](io::ErrorKind::InvalidData) if the line is not UTF-8, or is longer than the limit, with
    /// [`TooLong`] as the source of the error. The next call returns the next line; it discards the rest of
    /// a line that is too long. Otherwise the error of the stream.
    ///
    /// # Cancel safety
    /// No data is lost, and no data after a line that is too long is discarded.
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

    /// Returns the lines as a stream.
    ///
    /// [`next_line`](BufReader::next_line) returns the same lines without allocating.
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

    /// Returns the parts between delimiters as a stream, without the delimiters.
    ///
    /// Data after the last delimiter is one more part, unless it is empty.
    pub fn split(&mut self, delimiter: u8) -> Split<'_, R> {
        parts::split(self, delimiter)
    }

    /// Searches the buffer for `delimiter`, and returns the length of the part that ends with it.
    pub(super) fn find(&mut self, delimiter: u8) -> Option<usize> {
        if self.delimiter != delimiter {
            self.delimiter = delimiter;
            // Data to be discarded is not searched.
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

    /// Reads until `delimiter` is buffered, and returns the length of the part that ends with it, or of the
    /// remaining data at the end of the stream.
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
                // One more byte distinguishes a part that ends with the stream from a longer one.
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

    /// Removes and returns the first `n_bytes` of the buffer.
    pub(super) fn take(&mut self, n_bytes: usize) -> &[u8] {
        self.n_searched = 0;
        self.buffer.take(n_bytes)
    }

    /// Discards the rest of a part that was reported as too long. Returns `false` if the stream ends first.
    ///
    /// # Cancel safety
    /// The next call continues.
    async fn discard(&mut self) -> io::Result<bool> {
        let Some(overlong) = &mut self.overlong else { return Ok(true) };
        let delimiter = overlong.delimiter;
        let mut has_ended = false;
        if let Some(next) = overlong.next.take() {
            self.take(self.buffer.len());
            // Its size was the limit.
            self.buffer.shrink();
            has_ended = next == delimiter;
        }
        while !has_ended {
            // Without this, a reader that is always ready would never yield.
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

    /// Reads once, if fewer bytes than the limit are buffered. Zero is the end.
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
        let buffered = self.fill_buf().await?;
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
