//! Accepting connections within one host.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{self, SocketAddr};
use std::path::{Path, PathBuf};

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
/// since.
///
/// # Examples
/// ```
/// use polyloop_net::{UnixListener, UnixStream};
///
/// # polyloop_executor::run(async {
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
    /// # Errors
    /// As for [`bind`](UnixListener::bind): `AddrInUse` if somebody listens, or if what is there
    /// is no socket.
    pub fn bind_or_replace(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let (socket, file) = bind_or_replace(Type::STREAM, path.as_ref())?;
        socket.listen(BACKLOG)?;
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

/// Binds a new non-blocking socket to `path`, in place of one that was left behind.
pub(super) fn bind_or_replace(
    socket_type: Type,
    path: &Path,
) -> io::Result<(Socket, Option<SocketFile>)> {
    match bind(socket_type, path) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(socket_type, path) =>
        {
            fs::remove_file(path)?;
            bind(socket_type, path)
        }
        result => result,
    }
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

/// The file of a socket, which goes with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
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
        Some(SocketFile { path, identity })
    }

    /// Leaves the file where it is.
    pub(super) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // It fails if somebody else was quicker, or may not write there any more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}
