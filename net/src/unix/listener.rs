//! Accepting connections within one host.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{self, SocketAddr};
use std::path::{Path, PathBuf};
use std::process;

use polyloop_reactor::socket::OPEN_NOFOLLOW;
use socket2::{Domain, Socket, Type};

use super::{UnixStream, address, peer_of};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};
use crate::async_fd::into_std;

/// The connections that the system keeps waiting to be accepted, cut down to its own limit.
pub(super) const BACKLOG: i32 = 4_096;

/// Listens for connections at a path of the file system, or on Linux at an abstract name.
///
/// Dropping it removes its file: its own only, and not one that another listener has put there
/// since. In a forked child nothing is removed: the file is the parent's.
///
/// # Examples
/// ```
/// use polyloop::net::{UnixListener, UnixStream};
///
/// # polyloop::run(async {
/// # let path = std::env::temp_dir().join(format!("polyloop-doc-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// let client = UnixStream::connect(&path).await?;
/// let (server, _) = listener.accept().await?;
/// assert_eq!(server.peer_credentials()?.pid, client.peer_credentials()?.pid);
///
/// drop(listener);
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Debug)]
pub struct UnixListener {
    fd: AsyncFd<net::UnixListener>,
    /// Dropped after the descriptor, so that nobody finds a file without a listener for long.
    file: Option<SocketFile>,
}

impl UnixListener {
    /// Listens at `path`; on Linux `"\0name"` is an abstract name, which needs no file.
    ///
    /// # Errors
    /// What the system says: [`AddrInUse`](io::ErrorKind::AddrInUse) if there is a file, even if
    /// its listener is gone; [`bind_or_replace`](UnixListener::bind_or_replace) tells.
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a path of more than about a hundred
    /// bytes.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let (socket, file) = bind(Type::STREAM, path.as_ref())?;
        socket.listen(BACKLOG)?;
        Ok(UnixListener { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Listens at `path`, in place of a listener that has left its file behind.
    ///
    /// A program that was killed cannot remove its file. Whether it still runs is found out by
    /// connecting, so one that does sees a connection that is closed at once.
    ///
    /// Of several processes that call this at the same time, one succeeds. For that they lock a file beside
    /// `path`, with `.lock` at the end of its name, which is removed before this returns. A
    /// program that binds `path` in another way takes no lock: in the instant between its `bind` and its
    /// `listen` its socket may be replaced.
    ///
    /// # Errors
    /// As for [`bind`](UnixListener::bind): `AddrInUse` if another process listens or is about to, or if
    /// what is there is no socket. If the lock cannot be taken, an error that names it.
    pub fn bind_or_replace(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let (socket, file) = listen_or_replace(Type::STREAM, path.as_ref())?;
        Ok(UnixListener { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Takes a listener of the standard library and makes it non-blocking. Its file stays when it
    /// is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(listener: net::UnixListener) -> io::Result<UnixListener> {
        Ok(UnixListener { fd: AsyncFd::new(listener)?, file: None })
    }

    /// Returns the address that is listened at.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
    }

    /// Gives the listener to the standard library, in blocking mode. Its file stays.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(mut self) -> io::Result<net::UnixListener> {
        if let Some(file) = self.file.take() {
            file.keep();
        }
        let listener = into_std(self.fd, net::UnixListener::try_clone)?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }
}

listening!(UnixListener => UnixStream, SocketAddr);

impl sealed::Listener for UnixListener {
    type Io = net::UnixListener;
    type Stream = UnixStream;
    type Addr = SocketAddr;

    fn fd(&self) -> &AsyncFd<net::UnixListener> {
        &self.fd
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        UnixListener::local_addr(self)
    }

    fn accept(listener: &net::UnixListener) -> io::Result<(UnixStream, SocketAddr)> {
        let (socket, peer) = accept(listener, peer_of)?;
        Ok((UnixStream::from_nonblocking(socket.into()), peer))
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Binds a new non-blocking socket to `path`.
pub(super) fn bind(socket_type: Type, path: &Path) -> io::Result<(Socket, Option<SocketFile>)> {
    let addr = address(path)?;
    let socket = Socket::new(Domain::UNIX, socket_type, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr)?;
    Ok((socket, SocketFile::at(path)))
}

/// Listens with a new non-blocking socket at `path`, in place of one that was left behind.
///
/// A lock is held from the search for a listener until this one listens. Without it two processes could
/// both find none, and the second would replace the file of the first; or one could be found that is
/// bound and does not listen yet.
pub(super) fn listen_or_replace(
    socket_type: Type,
    path: &Path,
) -> io::Result<(Socket, Option<SocketFile>)> {
    // An abstract name has no file to be left behind.
    let is_abstract = path.as_os_str().as_bytes().starts_with(b"\0");
    let _lock = if is_abstract { None } else { Some(PathLock::take(path)?) };
    let bound = match bind(socket_type, path) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(socket_type, path) =>
        {
            fs::remove_file(path)?;
            bind(socket_type, path)
        }
        result => result,
    };
    let (socket, file) = bound?;
    socket.listen(BACKLOG)?;
    Ok((socket, file))
}

/// Reports whether there is a socket's file that no process listens at.
fn is_left_behind(socket_type: Type, path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    // Non-blocking: a queue that is full has a listener as well.
    let refused = || -> io::Result<bool> {
        let socket = Socket::new(Domain::UNIX, socket_type, None)?;
        socket.set_nonblocking(true)?;
        let result = socket.connect(&address(path)?);
        Ok(result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused))
    };
    is_socket && refused().unwrap_or(false)
}

/// The right to replace what is at a path, among those who ask for it.
///
/// It ends with the process, so a lock that was left behind keeps no one out.
struct PathLock {
    path: PathBuf,
    /// Closing it unlocks it.
    _file: File,
}

impl PathLock {
    /// The files of others that are passed over: each was removed by its owner after it was opened here.
    const MAX_TRIES: u32 = 100;

    /// Takes the lock. `AddrInUse` if another has it, and is about to listen therefore.
    fn take(path: &Path) -> io::Result<PathLock> {
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("the lock {}: {error}", lock_path.display()))
        };
        for _ in 0..PathLock::MAX_TRIES {
            let mut options = File::options();
            options.write(true).create(true).truncate(false);
            // A link that another user has put there would have a file of their choice made.
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
        // Removed before it is unlocked, so that the next to lock it finds out that it is gone. If that
        // fails, an empty file stays, which is no obstacle.
        let _ = fs::remove_file(&self.path);
    }
}

/// The file of a socket, which goes with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// The process that has bound it: a forked child has a copy of the socket, but not the file.
    owner: u32,
    /// Device and inode: what tells it from another file that came to the same path.
    identity: (u64, u64),
}

impl SocketFile {
    /// Finds the file that a socket has just been bound to; none for an abstract name.
    fn at(path: &Path) -> Option<SocketFile> {
        if path.as_os_str().as_bytes().starts_with(b"\0") {
            return None;
        }
        // From here on it is found even if the working directory changes.
        let path = std::path::absolute(path).ok()?;
        let identity = identity(&path)?;
        Some(SocketFile { path, owner: process::id(), identity })
    }

    /// Leaves the file where it is.
    pub(super) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if process::id() == self.owner && identity(&self.path) == Some(self.identity) {
            // It fails if another process was quicker, or if this one may not write there any more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
