//! `Server` and its settings.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Shared;
use super::event::OnEvent;
use super::{ServerEvent, ShutdownHandle};
use crate::TcpListener;
use crate::accept::Listener;
use crate::addr::ToAddrs;

/// The default of [`Server::shutdown_timeout`].
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The default of [`Server::exhaustion_timeout`].
const DEFAULT_EXHAUSTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Accepts connections and spawns a task for each.
///
/// A server handles what an accept loop meets in production:
/// - **Limits**: it keeps at most [`max_connections`](Server::max_connections) open; further clients wait in the
///   kernel's accept queue.
/// - **Idle clients**: [`idle_timeout`](Server::idle_timeout) closes connections whose handler has had nothing to
///   do. The page `docs/servers.md` lists what slow and silent clients can cost, and the settings that limit it.
/// - **Exhausted file descriptors or memory**: it backs off instead of spinning, and retries as soon as a
///   connection ends. After the [`exhaustion_timeout`](Server::exhaustion_timeout) it closes waiting clients,
///   using a reserve descriptor, rather than leaving them in the queue.
/// - **Failures**: an error or panic of one connection or its handler affects no other connection, and is reported
///   to [`on_event`](Server::on_event). Only an error of a listener ends the server.
/// - **Graceful shutdown**: a [`ShutdownHandle`] closes the listeners and
///   [notifies](crate::Session::shutdown_requested) the handlers. Connections that are still open after the
///   [`shutdown_timeout`](Server::shutdown_timeout) are aborted.
///
/// # Examples
/// An echo server:
/// ```
/// use polyloop::io::copy;
/// use polyloop::net::{Server, TcpStream};
///
/// # polyloop::run(async {
/// let server = Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addrs()[0];
/// let handle = server.shutdown_handle();
/// let serving = polyloop::spawn(server.serve(async |stream: TcpStream, _session| {
///     copy(&stream, &stream).await?;
///     Ok(())
/// }));
///
/// let client = TcpStream::connect(addr).await?;
/// client.write_all(b"hello").await?;
/// client.read_exact(&mut [0; 5]).await?;
/// drop(client);
///
/// handle.shutdown();
/// let report = serving.await??;
/// assert_eq!((report.served, report.aborted), (1, 0));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
///
/// On a Unix-domain socket, with [`Server::from_listener`]:
/// ```
/// use polyloop::io::copy;
/// use polyloop::net::{Server, UnixListener, UnixStream};
///
/// # polyloop::run(async {
/// # let path = std::env::temp_dir().join(format!("polyloop-serve-{}", std::process::id()));
/// let server = Server::from_listener(UnixListener::bind(&path)?);
/// let handle = server.shutdown_handle();
/// let serving = polyloop::spawn(server.serve(async |stream: UnixStream, _session| {
///     copy(&stream, &stream).await?;
///     Ok(())
/// }));
/// let client = UnixStream::connect(&path).await?;
/// client.write_all(b"hello").await?;
/// client.read_exact(&mut [0; 5]).await?;
/// # drop(client);
/// # handle.shutdown();
/// # assert_eq!(serving.await??.served, 1);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[doc(alias = "start_server")]
#[must_use = "a server accepts nothing before `serve` is awaited"]
pub struct Server<L: Listener = TcpListener> {
    pub(super) listeners: Vec<L>,
    /// `None` for the default, which depends on the running loop.
    pub(super) max_connections: Option<usize>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) shutdown_timeout: Duration,
    pub(super) exhaustion_timeout: Duration,
    pub(super) shared: Rc<Shared>,
    pub(super) on_event: OnEvent<L::Addr>,
}

impl Server {
    /// Binds a TCP listener, as [`TcpListener::bind`] does, and creates a server for it.
    ///
    /// # Errors
    /// Returns the errors of `TcpListener::bind`, such as [`AddrInUse`](io::ErrorKind::AddrInUse).
    pub fn bind(addr: impl ToAddrs) -> io::Result<Server> {
        Ok(Server::from_listener(TcpListener::bind(addr)?))
    }
}

impl<L: Listener> Server<L> {
    /// Creates a server for an existing listener.
    ///
    /// This may be a [`UnixListener`](crate::UnixListener), an inherited listener, or one configured with
    /// [`TcpSocket`](crate::TcpSocket), for instance with `SO_REUSEPORT` so that several loops serve the same
    /// address.
    pub fn from_listener(listener: L) -> Server<L> {
        Server {
            listeners: vec![listener],
            max_connections: None,
            idle_timeout: None,
            shutdown_timeout: DEFAULT_SHUTDOWN_TIMEOUT,
            exhaustion_timeout: DEFAULT_EXHAUSTION_TIMEOUT,
            shared: Rc::default(),
            on_event: Rc::new(|_| {}),
        }
    }

    /// Adds a listener. The server accepts from its listeners in turn.
    pub fn listener(mut self, listener: L) -> Server<L> {
        self.listeners.push(listener);
        self
    }

    /// Sets the maximum number of open connections; zero counts as 1. Further clients wait in the kernel's accept
    /// queue until a connection ends.
    ///
    /// The default is seven eighths of the process's soft limit on file descriptors (`RLIMIT_NOFILE`) at the time
    /// of [`serve`](Server::serve). The remaining eighth is left for files and for connections that handlers make.
    ///
    /// # Platform
    /// On a select loop the default is at most seven eighths of `FD_SETSIZE` (1,024), because select cannot watch
    /// higher descriptors.
    pub fn max_connections(mut self, max_connections: usize) -> Server<L> {
        self.max_connections = Some(max_connections.max(1));
        self
    }

    /// Closes a connection when its handler has had nothing to do for `timeout`: no I/O it waits for became
    /// possible, and none of its timers expired. There is no idle timeout by default.
    ///
    /// The handler's future is dropped, and with it the connection, which is counted in
    /// [`ServerReport::idle`](crate::ServerReport::idle). A handler that may wait longer for something other than
    /// its client, such as a query, can await it in a separate task and tick an
    /// [`interval`](polyloop_executor::interval) meanwhile.
    ///
    /// A client that sends single bytes is not idle. To bound the time for a whole request, use
    /// [`timeout`](polyloop_executor::timeout) in the handler.
    pub fn idle_timeout(mut self, timeout: Duration) -> Server<L> {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Sets how long open connections may continue after a shutdown was requested: ten seconds by default.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Server<L> {
        self.shutdown_timeout = timeout;
        self
    }

    /// Sets how long clients may wait while file descriptors or memory are exhausted, before their connections
    /// are closed: two seconds by default.
    pub fn exhaustion_timeout(mut self, timeout: Duration) -> Server<L> {
        self.exhaustion_timeout = timeout;
        self
    }

    /// Sets a callback for failures that do not end the server. By default they are only counted.
    ///
    /// A panic of the callback, such as that of `println!` to a closed pipe, is caught.
    pub fn on_event(mut self, callback: impl Fn(ServerEvent<'_, L::Addr>) + 'static) -> Server<L> {
        self.on_event = Rc::new(callback);
        self
    }

    /// Returns the addresses of the listeners.
    pub fn local_addrs(&self) -> Vec<L::Addr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Returns a handle that shuts the server down from another task of the same loop.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle { shared: Rc::clone(&self.shared) }
    }
}

impl<L: Listener + fmt::Debug> fmt::Debug for Server<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listeners", &self.listeners)
            .field("max_connections", &self.max_connections)
            .field("idle_timeout", &self.idle_timeout)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("exhaustion_timeout", &self.exhaustion_timeout)
            .finish_non_exhaustive()
    }
}
