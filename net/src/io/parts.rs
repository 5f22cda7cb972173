//! Lines and other parts of a byte stream, as a `Stream`.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use polyloop_executor::poll_proceed;

use super::{BufReader, Read};

/// A stream of lines without their terminators (`\n` or `\r\n`). Created by [`BufReader::lines`].
///
/// # Errors
/// As for [`BufReader::next_line`]. The item after a line that is not UTF-8 or is
/// [too long](super::TooLong) is the next line; other errors repeat.
///
/// # Cancel safety
/// No data is lost: it remains in the reader.
#[must_use = "streams do nothing unless polled"]
pub struct Lines<'a, R> {
    search: Search<'a, R>,
}

/// A stream of the parts between delimiters. Created by [`BufReader::split`].
///
/// # Errors
/// As for [`BufReader::read_until`]. The item after a part that is [too long](super::TooLong) is the next
/// part; other errors repeat.
///
/// # Cancel safety
/// No data is lost: it remains in the reader.
#[must_use = "streams do nothing unless polled"]
pub struct Split<'a, R> {
    search: Search<'a, R>,
}

/// The search for the next part. Either `reader` or `reading`, which then owns the reader, is set.
struct Search<'a, R> {
    delimiter: u8,
    reader: Option<&'a mut BufReader<R>>,
    reading: Option<Reading<'a, R>>,
}

type Part = io::Result<Option<Vec<u8>>>;

type Reading<'a, R> = Pin<Box<dyn Future<Output = (&'a mut BufReader<R>, Part)> + 'a>>;

pub(super) fn lines<R>(reader: &mut BufReader<R>) -> Lines<'_, R> {
    Lines { search: Search { delimiter: b'\n', reader: Some(reader), reading: None } }
}

pub(super) fn split<R>(reader: &mut BufReader<R>, delimiter: u8) -> Split<'_, R> {
    Split { search: Search { delimiter, reader: Some(reader), reading: None } }
}

impl<R: Read> Search<'_, R> {
    /// Polls for the next part, including its delimiter.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Vec<u8>>>> {
        let delimiter = self.delimiter;
        if let Some(reader) = &mut self.reader {
            // Without this, a loop over buffered parts would never yield.
            ready!(poll_proceed(cx));
            if let Some(n_bytes) = reader.find(delimiter) {
                return Poll::Ready(Some(Ok(reader.take(n_bytes).to_vec())));
            }
        }
        if let Some(reader) = self.reader.take() {
            self.reading = Some(Box::pin(async move {
                let part = match reader.read_to(delimiter).await {
                    Ok(0) => Ok(None),
                    Ok(n_bytes) => Ok(Some(reader.take(n_bytes).to_vec())),
                    Err(error) => Err(error),
                };
                (reader, part)
            }));
        }
        let reading =
            self.reading.as_mut().expect("the reader is here or in the future that reads");
        let (reader, part) = ready!(reading.as_mut().poll(cx));
        (self.reader, self.reading) = (Some(reader), None);
        Poll::Ready(part.transpose())
    }
}

impl<R: Read> Stream for Lines<'_, R> {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(line) = ready!(self.search.poll_part(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(line.and_then(|mut line| {
            if line.pop_if(|byte| *byte == b'\n').is_some() {
                line.pop_if(|byte| *byte == b'\r');
            }
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            String::from_utf8(line).map_err(invalid)
        })))
    }
}

impl<R: Read> Stream for Split<'_, R> {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let delimiter = self.search.delimiter;
        let Some(part) = ready!(self.search.poll_part(cx)) else { return Poll::Ready(None) };
        Poll::Ready(Some(part.map(|mut part| {
            part.pop_if(|byte| *byte == delimiter);
            part
        })))
    }
}

impl<R> fmt::Debug for Lines<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("reader", &self.search.reader).finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Split<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("delimiter", &self.search.delimiter)
            .field("reader", &self.search.reader)
            .finish_non_exhaustive()
    }
}
