//! Why a scope was cancelled.

use std::error::Error;
use std::fmt;
use std::io;

use crate::Elapsed;

/// The error of a body that was dropped because its scope was cancelled.
///
/// # Examples
/// ```
/// use std::{future::pending, io, time::Duration};
/// use polyloop::scope::{CancelScope, Cancelled};
///
/// # polyloop::run(async {
/// let scope = CancelScope::new().timeout(Duration::from_millis(1));
/// let late = scope.run(async |_| pending::<()>().await).await.unwrap_err();
/// assert!(matches!(late, Cancelled::Elapsed(_)));
/// assert_eq!(io::Error::from(late).kind(), io::ErrorKind::TimedOut);
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cancelled {
    /// The deadline of the scope elapsed.
    Elapsed(Elapsed),
    /// [`CancelScope::cancel`](crate::CancelScope::cancel) was called.
    Requested,
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cancelled::Elapsed(elapsed) => elapsed.fmt(f),
            Cancelled::Requested => f.write_str("scope was cancelled"),
        }
    }
}

impl Error for Cancelled {}

impl From<Cancelled> for io::Error {
    fn from(cancelled: Cancelled) -> io::Error {
        match cancelled {
            Cancelled::Elapsed(elapsed) => io::Error::from(elapsed),
            Cancelled::Requested => io::Error::other(cancelled),
        }
    }
}
