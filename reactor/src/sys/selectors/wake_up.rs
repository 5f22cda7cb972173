//! The wake-up descriptor of a selector: the other end of its [`Notifier`].

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use super::lost::LostDescriptor;
use crate::Notifier;
use crate::sys::stat::FileId;
use crate::sys::wake::WakeFd;

/// A [`WakeFd`] in the selector's own set, opened when the first notifier is requested.
#[derive(Debug, Default)]
pub(super) struct LazyWakeUp(OnceCell<WakeUp>);

impl LazyWakeUp {
    /// Returns the descriptor, if it has been opened.
    #[inline]
    pub(super) fn get(&self) -> Option<&WakeUp> {
        self.0.get()
    }

    /// Returns its notifier. Opens it with `open` if there is none yet.
    pub(super) fn notifier(
        &self,
        open: impl FnOnce() -> io::Result<WakeUp>,
    ) -> io::Result<Notifier> {
        if self.0.get().is_none() {
            // No error can be lost: it was empty, and `open` has no access to it.
            let _ = self.0.set(open()?);
        }
        Ok(self.0.get().expect("it was opened").notifier.clone())
    }
}

/// A wake-up descriptor and its notifier.
pub(super) struct WakeUp {
    wake: Arc<WakeFd>,
    /// The file that the number to watch named when it was opened.
    file: FileId,
    notifier: Notifier,
}

impl WakeUp {
    /// Opens one for a set that reports edges, where it need not be read.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn for_edges() -> io::Result<WakeUp> {
        WakeUp::new(WakeFd::new()?)
    }

    /// Opens one for a set that reports levels, where it has to be read.
    ///
    /// It is a pipe, since a pipe can be distinguished from any other file: all eventfds share one
    /// inode, and reading another's takes what that one counts. The write and the read of a
    /// notification cost some 300 ns more than those of an eventfd.
    pub(super) fn for_levels() -> io::Result<WakeUp> {
        WakeUp::new(WakeFd::from_pipe()?)
    }

    fn new(wake: WakeFd) -> io::Result<WakeUp> {
        let file = FileId::of(wake.as_fd().as_raw_fd())?;
        let wake = Arc::new(wake);
        let trigger = Arc::clone(&wake);
        Ok(WakeUp { wake, file, notifier: Notifier::from_fn(move || trigger.raise()) })
    }

    /// Returns the number to watch for reading.
    #[inline]
    pub(super) fn fd(&self) -> RawFd {
        self.wake.as_fd().as_raw_fd()
    }

    /// Consumes the notification that a level was reported for. Returns whether there was one.
    ///
    /// # Errors
    /// [`LostDescriptor`] if the program has closed the descriptor. Nothing is read then: the number
    /// may name another file.
    pub(super) fn drain(&self) -> io::Result<bool> {
        let fd = self.fd();
        let file = FileId::of(fd).map_err(|error| LostDescriptor::closed(fd, error))?;
        if file != self.file {
            return Err(LostDescriptor::replaced(fd));
        }
        self.wake.drain()?;
        Ok(self.notifier.acknowledge())
    }

    /// Consumes the notification that an edge was reported for. An eventfd reports every write, whether
    /// it was read or not; a pipe has to be read, since a full one takes no more.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn acknowledge_edge(&self) -> io::Result<bool> {
        if self.wake.is_pipe() { self.drain() } else { Ok(self.notifier.acknowledge()) }
    }
}

impl fmt::Debug for WakeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeUp").field("fd", &self.fd()).field("notifier", &self.notifier).finish()
    }
}
