//! Converts the results of system calls to `Result`.

use std::io;
use std::os::fd::RawFd;

use libc::c_int;

/// Converts the -1 of a failed call to the error in `errno`.
pub(super) fn cvt(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Converts the result of a read or write to a count or an error.
pub(super) fn cvt_size(result: libc::ssize_t) -> io::Result<usize> {
    // Only -1 is negative, so the conversion fails exactly when the call did.
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call while a signal interrupts it. Not for waits: see [`waited`].
pub(super) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Converts the result of a wait to the number of events, or `None` if a signal ended it.
pub(super) fn waited(result: c_int) -> io::Result<Option<usize>> {
    match cvt(result) {
        // Not negative once `cvt` has let it pass.
        Ok(n_events) => Ok(Some(n_events as usize)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a sentence in front of an error. The kind stays the same, and the original error is the source.
pub(super) fn explain(error: io::Error, sentence: String) -> io::Error {
    io::Error::new(error.kind(), Explained { sentence, source: error })
}

/// Returns an error if the number is not open.
pub(super) fn check_open(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFD takes no pointers and changes nothing, whatever the number.
    cvt(unsafe { libc::fcntl(fd, libc::F_GETFD) }).map(drop)
}

/// Puts the name of the failed call in front of an error.
pub(super) fn named(call: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| explain(error, call.to_owned())
}

/// Returns the `errno` of an error, also if the error has been explained.
///
/// polyloop puts an explanation in front of some errors of the operating system. Such an error keeps
/// its kind and has the original error as its source, which [`io::Error::raw_os_error`] does not
/// inspect.
///
/// # Examples
/// ```
/// # #[cfg(target_os = "linux")] {
/// use std::os::fd::AsFd;
/// use polyloop::Backend;
/// use polyloop::driver::os_error;
/// use polyloop::selectors::{Interest, Mode, Token};
///
/// let file = std::fs::File::open("/").unwrap();
/// let mut epoll = Backend::Epoll.open().unwrap();
/// let token = Token::from_raw(1);
/// let error = epoll.register(file.as_fd(), token, Interest::READABLE, Mode::Level).unwrap_err();
/// assert_eq!(error.raw_os_error(), None);
/// assert_eq!(os_error(&error), Some(1)); // EPERM
/// # }
/// ```
pub fn os_error(error: &io::Error) -> Option<i32> {
    if let Some(errno) = error.raw_os_error() {
        return Some(errno);
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(errno) = error.downcast_ref().and_then(io::Error::raw_os_error) {
            return Some(errno);
        }
        source = error.source();
    }
    None
}

#[derive(Debug)]
struct Explained {
    sentence: String,
    source: io::Error,
}

impl std::fmt::Display for Explained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.sentence, self.source)
    }
}

impl std::error::Error for Explained {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_call_is_made_again() {
        let mut n_calls = 0;
        let result = retry(|| {
            n_calls += 1;
            if n_calls < 3 { Err(io::Error::from_raw_os_error(libc::EINTR)) } else { Ok(n_calls) }
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn an_explained_error_keeps_kind_and_errno() {
        let error = explain(io::Error::from_raw_os_error(libc::EPERM), "register".to_owned());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let source = std::error::Error::source(error.get_ref().unwrap()).unwrap();
        let source: &io::Error = source.downcast_ref().unwrap();
        assert_eq!(source.raw_os_error(), Some(libc::EPERM));
        assert_eq!(os_error(&error), Some(libc::EPERM));
        let twice = explain(error, "build".to_owned());
        assert_eq!(os_error(&twice), Some(libc::EPERM));
        assert_eq!(os_error(&io::Error::from_raw_os_error(libc::EBADF)), Some(libc::EBADF));
        assert_eq!(os_error(&io::Error::other("something else")), None);
    }
}
