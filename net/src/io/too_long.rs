//! The error of what is longer than its reader's limit.

use std::error;
use std::fmt;
use std::io;

/// Reports a line, a part or a frame that is longer than the limit of its reader.
///
/// It comes inside an [`io::Error`] of the kind [`InvalidData`](io::ErrorKind::InvalidData). So does
/// the error of a line that is not UTF-8; [`TooLong::of`] distinguishes the two.
///
/// # Examples
/// ```
/// use polyloop::io::{BufReader, TooLong};
///
/// # polyloop::run(async {
/// let mut reader = BufReader::with_limit(&b"a line that is too long\nfine\n"[..], 10);
/// let error = reader.next_line().await.unwrap_err();
/// assert_eq!(TooLong::of(&error).unwrap().limit(), 10);
/// assert_eq!(reader.next_line().await?, Some("fine"));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    limit: usize,
    /// What a frame says of itself. Where something ends with a delimiter, its length is not known.
    length: Option<u64>,
}

impl TooLong {
    pub(super) fn without_end(limit: usize) -> TooLong {
        TooLong { limit, length: None }
    }

    pub(super) fn frame(limit: usize, length: u64) -> TooLong {
        TooLong { limit, length: Some(length) }
    }

    /// Returns the reason of `error` if it is this one.
    pub fn of(error: &io::Error) -> Option<&TooLong> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.length {
            Some(length) => write!(f, "a frame of {length} bytes, where {limit} are the limit"),
            None => write!(f, "more than {limit} bytes without an end"),
        }
    }
}

impl error::Error for TooLong {}

impl From<TooLong> for io::Error {
    fn from(error: TooLong) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
