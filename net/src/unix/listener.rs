//! Listening for Unix stream connections.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::Type;

use super::UnixStream;
use super::address::peer_of;
use super::socket_file::{BACKLOG, SocketFile, bind, listen_or_replace};
use crate::AsyncFd;
use crate::accept::{accept, listening, sealed};
use crate::async_fd::into_std;

/// Listens for [`UnixStream`] connections at a path, or on Linux at an abstract name.
///
/// Dropping it removes its file, unless another listener has replaced the file since. A forked child does
/// not remove it.
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
    /// Dropped after the descriptor. A client that connects in between is refused.
    file: Option<SocketFile>,
}

impl UnixListener {
    /// Listens at `path`, or on Linux at an abstract name such as `"\0name"`, which needs no file.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if the file exists, even if its listener is gone (see
    /// [`bind_or_replace`](UnixListener::bind_or_replace));
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a path that is too long, which is more than 107
    /// bytes on Linux and 103 on the other systems.
    ///
    /// # References
    /// [unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html).
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let (socket, file) = bind(Type::STREAM, path.as_ref())?;
        socket.listen(BACKLOG)?;
        Ok(UnixListener { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Listens at `path`, replacing the file of a listener that is gone.
    ///
    /// A program that was killed cannot remove its file. Whether its listener is gone is found out by
    /// connecting to it, so a listener that is still there sees a connection that is closed at once.
    ///
    /// If several processes call this at the same time, one succeeds. They lock a file beside `path`, with
    /// the suffix `.lock`, which is removed before this returns. A program that binds `path` in another way
    /// takes no lock; between its `bind` and its `listen`, its socket may be replaced.
    ///
    /// # Errors
    /// [`AddrInUse`](io::ErrorKind::AddrInUse) if another process listens or is about to, or if the file is
    /// not a socket; an error that names the lock file if the lock cannot be acquired; otherwise as for
    /// [`bind`](UnixListener::bind).
    pub fn bind_or_replace(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        let (socket, file) = listen_or_replace(Type::STREAM, path.as_ref())?;
        Ok(UnixListener { fd: AsyncFd::from_nonblocking(socket.into()), file })
    }

    /// Creates a listener from the standard library's type, and makes it non-blocking.
    ///
    /// Its file is not removed on drop.
    pub fn from_std(listener: net::UnixListener) -> io::Result<UnixListener> {
        Ok(UnixListener { fd: AsyncFd::new(listener)?, file: None })
    }

    /// Converts the listener into the standard library's type, in blocking mode.
    ///
    /// Its file is not removed.
    pub fn into_std(mut self) -> io::Result<net::UnixListener> {
        if let Some(file) = self.file.take() {
            file.keep();
        }
        let listener = into_std(self.fd, net::UnixListener::try_clone)?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Returns the local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.fd.get_ref().local_addr()
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
