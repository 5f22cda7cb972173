//! The error for data that exceeds the limit of its reader.

use std::error;
use std::fmt;
use std::io;

/// The error for a line, a part or a frame that is longer than the limit of its reader.
///
/// It is the source of an [`io::Error`] of the kind [`InvalidData`](io::ErrorKind::InvalidData), as is the
/// error for a line that is not UTF-8. [`TooLong::from_error`] distinguishes the two.
///
/// # Examples
/// ```
/// use polyloop::io::{BufReader, TooLong};
///
/// # polyloop::run(async {
/// let mut reader = BufReader::with_limit(&b"a line that is too long\nfine\n"[..], 10);
/// let error = reader.next_line().await.unwrap_err();
/// assert_eq!(TooLong::from_error(&error).unwrap().limit(), 10);
/// assert_eq!(reader.next_line().await?, Some("fine"));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    limit: usize,
    /// The length of a frame. Unknown for data that ends with a delimiter.
    length: Option<u64>,
}

impl TooLong {
    pub(super) fn without_end(limit: usize) -> TooLong {
        TooLong { limit, length: None }
    }

    pub(super) fn frame(limit: usize, length: u64) -> TooLong {
        TooLong { limit, length: Some(length) }
    }

    /// Returns the `TooLong` inside `error`, if there is one.
    pub fn from_error(error: &io::Error) -> Option<&TooLong> {
        error.get_ref()?.downcast_ref()
    }

    /// Returns the limit of the reader in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match self.length {
            Some(length) => {
                write!(f, "a frame of {length} bytes exceeds the limit of {limit} bytes")
            }
            None => write!(f, "no delimiter within the limit of {limit} bytes"),
        }
    }
}

impl error::Error for TooLong {}

impl From<TooLong> for io::Error {
    fn from(error: TooLong) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
