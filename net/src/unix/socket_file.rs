//! The file of a bound Unix socket: creating, replacing and removing it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use polyloop_reactor::socket::OPEN_NOFOLLOW;
use socket2::{Domain, Socket, Type};

use super::address::address;

/// The number of connections that may wait to be accepted. The system caps it at its own limit.
pub(super) const BACKLOG: i32 = 4_096;

/// Binds a new non-blocking socket to `path`.
pub(super) fn bind(socket_type: Type, path: &Path) -> io::Result<(Socket, Option<SocketFile>)> {
    let addr = address(path)?;
    let socket = Socket::new(Domain::UNIX, socket_type, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr)?;
    Ok((socket, SocketFile::from_path(path)))
}

/// Listens with a new non-blocking socket at `path`, replacing the file of a listener that is gone.
///
/// A lock is held from the check for another listener until this one listens. Without it, two processes
/// could both find no listener and the second would replace the file of the first, or one could find the
/// other bound but not yet listening.
pub(super) fn listen_or_replace(
    socket_type: Type,
    path: &Path,
) -> io::Result<(Socket, Option<SocketFile>)> {
    // An abstract name has no file.
    let is_abstract = path.as_os_str().as_bytes().starts_with(b"\0");
    let _lock = if is_abstract { None } else { Some(PathLock::acquire(path)?) };
    let bound = match bind(socket_type, path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(socket_type, path) => {
            fs::remove_file(path)?;
            bind(socket_type, path)
        }
        result => result,
    };
    let (socket, file) = bound?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Returns whether `path` is the file of a socket on which no process listens.
fn is_stale(socket_type: Type, path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // Non-blocking, since the queue of a listener may be full.
    let refused = || -> io::Result<bool> {
        let socket = Socket::new(Domain::UNIX, socket_type, None)?;
        socket.set_nonblocking(true)?;
        let result = socket.connect(&address(path)?);
        Ok(result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    };
    is_socket && refused().unwrap_or(false)
}

/// A lock for replacing the file at a path.
///
/// It is released when the process ends, so a lock file that was left behind locks nothing.
struct PathLock {
    path: PathBuf,
    /// Closing the file releases the lock.
    _file: File,
}

impl PathLock {
    /// The number of attempts: in each but the last, the previous owner removed the lock file after it
    /// was opened here.
    const MAX_ATTEMPTS: u32 = 100;

    /// Acquires the lock. Fails with `AddrInUse` if another process holds it and so is about to listen.
    fn acquire(path: &Path) -> io::Result<PathLock> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot lock {}: {error}", lock_path.display()))
        };
        for _ in 0..PathLock::MAX_ATTEMPTS {
            let mut options = File::options();
            options.write(true).create(true).truncate(false);
            // Following a link would let another user choose the file that is created.
            let file = options.custom_flags(OPEN_NOFOLLOW).open(&lock_path).map_err(named)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::AddrInUse.into()),
                Err(TryLockError::Error(error)) => return Err(named(error)),
            }
            let opened = file.metadata().map_err(named)?;
            if identity(&lock_path) == Some((opened.dev(), opened.ino())) {
                return Ok(PathLock { path: lock_path, _file: file });
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // Removed before the lock is released, so that the next process to lock it sees that it is gone.
        // If the removal fails, an empty file remains, which is harmless.
        let _ = fs::remove_file(&self.path);
    }
}

/// The file of a bound socket, which is removed on drop.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The process that bound the socket. A forked child has a copy of the socket and must not remove
    /// the file.
    owner: u32,
    /// Device and inode, which distinguish the file from another one that took the same path.
    identity: (u64, u64),
}

impl SocketFile {
    /// Finds the file of a socket that was just bound to `path`. Returns `None` for an abstract name.
    fn from_path(path: &Path) -> Option<SocketFile> {
        if path.as_os_str().as_bytes().starts_with(b"\0") {
            return None;
        }
        // The working directory may change.
        let path = std::path::absolute(path).ok()?;
        let identity = identity(&path)?;
        Some(SocketFile { path, owner: process::id(), identity })
    }

    /// Drops the value without removing the file.
    pub(super) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if process::id() == self.owner && identity(&self.path) == Some(self.identity) {
            // Fails if another process has removed the file, or if this one no longer may.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
