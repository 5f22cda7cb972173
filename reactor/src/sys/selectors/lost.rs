//! Descriptors that a selector owns and the program has closed.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::RawFd;

/// Reports that the program has closed a descriptor that a selector owns.
///
/// Closing a number twice does it, or closing a range of them. The number may belong to another file
/// by now, which the selector does not read. The selector cannot be used any more: every further wait
/// returns the same error.
///
/// It is what an [`io::Error`] of kind [`Other`](io::ErrorKind::Other) carries.
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
    /// What the system answered. None if the number belongs to another file.
    source: Option<io::Error>,
}

impl LostDescriptor {
    /// Returns the number that the selector owned.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Reports whether the number belongs to another file now.
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
            None => f.write_str(", and its number belongs to another file"),
        }
    }
}

impl Error for LostDescriptor {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|error| error as &(dyn Error + 'static))
    }
}
