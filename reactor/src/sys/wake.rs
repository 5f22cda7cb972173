//! [`WakeFd`]: a descriptor that becomes readable on demand.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::cvt::{cvt_size, retry};
use super::os;

/// A descriptor that becomes readable when it is raised, from any thread or signal handler, until it is
/// drained.
///
/// It is an eventfd, or a pipe on systems without eventfds. It is close-on-exec and non-blocking.
/// Selectors build their [`Notifier`](crate::Notifier) on it.
///
/// # Examples
/// ```
/// use polyloop::driver::WakeFd;
///
/// let wake = WakeFd::new()?;
/// wake.raise()?;
/// wake.raise()?;
/// assert!(wake.drain()?);
/// assert!(!wake.drain()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WakeFd {
    reader: OwnedFd,
    /// The write end of a pipe; an eventfd is both ends.
    writer: Option<OwnedFd>,
}

impl WakeFd {
    /// Opens a descriptor that is not raised.
    ///
    /// # Errors
    /// An error such as `EMFILE` if no descriptor is left.
    pub fn new() -> io::Result<WakeFd> {
        let (reader, writer) = os::wake_ends()?;
        Ok(WakeFd { reader, writer })
    }

    /// Makes the descriptor readable, if it is not already.
    ///
    /// This function is async-signal-safe: it makes one `write`, allocates nothing and takes no lock. It may
    /// change `errno`.
    ///
    /// # Errors
    /// The error of `write`, which can fail if the program has closed the descriptor.
    pub fn raise(&self) -> io::Result<()> {
        raise(self.writer_fd())
    }

    /// Makes the descriptor unreadable until it is raised again. Returns whether it was raised.
    ///
    /// # Errors
    /// The error of `read`, which can fail if the program has closed the descriptor.
    pub fn drain(&self) -> io::Result<bool> {
        // An eventfd gives its 8 bytes at once; a pipe may hold 64 KiB.
        let mut buffer = [0_u8; 512];
        let mut raised = false;
        loop {
            let fd = self.reader.as_raw_fd();
            let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: `buffer` is valid for writes of its length, and `fd` is open: it is owned.
            let result = retry(|| cvt_size(unsafe { libc::read(fd, pointer, length) }));
            match result {
                Ok(n_bytes) => {
                    raised = true;
                    if n_bytes < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(raised),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the number of the end that [`raise`] writes to.
    pub(super) fn writer_fd(&self) -> RawFd {
        self.writer.as_ref().unwrap_or(&self.reader).as_raw_fd()
    }

    /// Returns whether it is a pipe.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn is_pipe(&self) -> bool {
        self.writer.is_some()
    }

    /// Opens a pipe, even where there are eventfds.
    pub(super) fn from_pipe() -> io::Result<WakeFd> {
        let (reader, writer) = os::pipe()?;
        Ok(WakeFd { reader, writer: Some(writer) })
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Raises a [`WakeFd`] by the number of its write end. Async-signal-safe.
pub(super) fn raise(writer: RawFd) -> io::Result<()> {
    // What an eventfd adds to its counter. A pipe takes 8 bytes as well as one.
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is valid for reads of its own length. A closed `writer` gives EBADF; callers
    // ensure that the number does not name another file.
    let result = retry(|| cvt_size(unsafe { libc::write(writer, one.as_ptr().cast(), one.len()) }));
    match result {
        Ok(_) => Ok(()),
        // A full pipe, or an eventfd at its maximum: raised already.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [WakeFd; 2] {
        [WakeFd::new().unwrap(), WakeFd::from_pipe().unwrap()]
    }

    #[test]
    fn draining_returns_whether_it_was_raised() {
        for wake in both() {
            assert!(!wake.drain().unwrap());
            wake.raise().unwrap();
            wake.raise().unwrap();
            assert!(wake.drain().unwrap());
            assert!(!wake.drain().unwrap());
        }
    }

    #[test]
    fn a_full_pipe_is_raised_already() {
        let wake = WakeFd::from_pipe().unwrap();
        for _ in 0..100_000 {
            wake.raise().unwrap();
        }
        assert!(wake.drain().unwrap());
        assert!(!wake.drain().unwrap());
    }

    #[test]
    fn a_counter_at_its_maximum_is_raised_already() {
        let wake = WakeFd::new().unwrap();
        let most = (u64::MAX - 1).to_ne_bytes();
        // SAFETY: `most` is valid for reads of its own length, and the descriptor is open.
        let result = unsafe { libc::write(wake.writer_fd(), most.as_ptr().cast(), most.len()) };
        assert_eq!(cvt_size(result).unwrap(), most.len());
        wake.raise().unwrap();
        assert!(wake.drain().unwrap());
        assert!(!wake.drain().unwrap());
    }

    #[test]
    fn both_ends_are_closed_on_exec_and_do_not_block() {
        for wake in both() {
            for fd in [wake.reader.as_raw_fd(), wake.writer_fd()] {
                // SAFETY: F_GETFD only reads the flags of an open descriptor.
                let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
                assert_ne!(flags & libc::FD_CLOEXEC, 0);
                // SAFETY: F_GETFL only reads the status of an open descriptor.
                let status = unsafe { libc::fcntl(fd, libc::F_GETFL) };
                assert_ne!(status & libc::O_NONBLOCK, 0);
            }
        }
    }
}
