//! [`LostDescriptor`]: the error if the program closes a descriptor that a selector owns.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// The error of a wait if the program has closed a descriptor that the selector owns.
///
/// That happens to programs that close a number twice or close a range of numbers. The number may name
/// another file by now, from which the selector does not read. The selector cannot be used any
/// more: every further wait returns this error.
///
/// It is the inner error of an [`io::Error`] of kind [`Other`](io::ErrorKind::Other).
///
/// # Examples
/// ```
/// use std::io;
/// use polyloop::selectors::LostDescriptor;
///
/// fn is_lost(error: &io::Error) -> bool {
///     error.get_ref().is_some_and(|inner| inner.is::<LostDescriptor>())
/// }
/// # assert!(!is_lost(&io::Error::other("something else")));
/// ```
#[derive(Debug)]
pub struct LostDescriptor {
    fd: RawFd,
    /// The error of the system call. `None` if the number names another file.
    source: Option<io::Error>,
}

impl LostDescriptor {
    /// Returns the number of the descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Returns whether the number now names another file.
    pub fn is_replaced(&self) -> bool {
        self.source.is_none()
    }

    #[cold]
    pub(super) fn closed(fd: RawFd, source: io::Error) -> io::Error {
        io::Error::other(LostDescriptor { fd, source: Some(source) })
    }

    #[cold]
    pub(super) fn replaced(fd: RawFd) -> io::Error {
        io::Error::other(LostDescriptor { fd, source: None })
    }
}

impl fmt::Display for LostDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostDescriptor { fd, source } = self;
        write!(f, "fd {fd}, which a selector owns, was closed by the program")?;
        match source {
            Some(error) => write!(f, ": {error}"),
            None => f.write_str(", and its number names another file"),
        }
    }
}

impl Error for LostDescriptor {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|error| error as &(dyn Error + 'static))
    }
}
