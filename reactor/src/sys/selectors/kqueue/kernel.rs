//! The kernel under the selector: kevent(2), and the properties that differ between systems.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::time::Duration;

use crate::sys::kq::{Filter, Kevent};

/// A kqueue: the running kernel's, the library's, or a [model](super::model) of one.
pub(in crate::sys) trait Kernel:
    AsFd + fmt::Debug + Send + Sync + Sized + 'static
{
    /// The filter for out-of-band data, if there is one.
    const OUT_OF_BAND: Option<OutOfBand>;

    /// Whether a kqueue can be watched by another selector.
    const IS_POLLABLE: bool;

    /// Opens a kqueue, close-on-exec.
    fn open() -> io::Result<Self>;

    /// Submits changes and waits. Returns `None` if a signal ended the wait.
    fn kevent(
        &self,
        changes: &[Kevent],
        events: &mut [Kevent],
        timeout: Option<Duration>,
    ) -> io::Result<Option<usize>>;

    /// Returns whether a deletion must be submitted before the caller closes the descriptor. It need
    /// not if closing removes the filters.
    fn is_deletion_urgent(fd: RawFd) -> bool {
        let _ = fd;
        false
    }
}

/// The filter for out-of-band data (`EVFILT_EXCEPT`).
#[derive(Clone, Copy, Debug)]
pub(in crate::sys) struct OutOfBand {
    pub(in crate::sys) filter: Filter,
    /// The flag that requests it, and that an event about it carries (`NOTE_OOB`).
    pub(in crate::sys) mark: u32,
    /// The flag that holds plain data back up to a number of bytes (`NOTE_LOWAT`), where the filter is
    /// the one for reading and reports data, the end and errors as well: macOS.
    pub(in crate::sys) low_water: Option<u32>,
}
