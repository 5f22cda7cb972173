//! What a server passes to its handlers beside the stream.

use std::fmt;

use polyloop_executor::CancellationToken;

/// Identifies a connection of a [`Server`](crate::Server), and notifies its handler of the server's shutdown.
///
/// # Examples
/// A handler that says goodbye on shutdown:
/// ```
/// use polyloop::race;
/// use polyloop::future::Either;
/// use polyloop::net::{Server, TcpStream};
///
/// # polyloop::run(async {
/// let server = Server::bind("127.0.0.1:0")?;
/// let addr = server.local_addrs()[0];
/// let handle = server.shutdown_handle();
/// let serving = polyloop::spawn(server.serve(async |stream: TcpStream, session| {
///     let mut buf = [0; 1024];
///     loop {
///         match race(session.shutdown_requested(), stream.read(&mut buf)).await {
///             Either::Left(()) => return stream.write_all(b"goodbye\n").await,
///             Either::Right(Ok(0)) => return Ok(()),
///             Either::Right(read) => {
///                 read?;
///                 stream.write_all(b"hello\n").await?;
///             }
///         }
///     }
/// }));
///
/// let client = TcpStream::connect(addr).await?;
/// client.write_all(b"?").await?;
/// client.read_exact(&mut [0; 6]).await?;
/// handle.shutdown();
/// let mut buf = [0; 8];
/// client.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"goodbye\n");
/// assert_eq!(serving.await??.served, 1);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone)]
pub struct Session<A = std::net::SocketAddr> {
    peer: A,
    shutdown: CancellationToken,
}

impl<A> Session<A> {
    pub(super) fn new(peer: A, shutdown: CancellationToken) -> Session<A> {
        Session { peer, shutdown }
    }

    /// Returns the client's address.
    pub fn peer(&self) -> &A {
        &self.peer
    }

    /// Waits until the server's [shutdown](crate::ShutdownHandle::shutdown) is requested.
    ///
    /// From then on the handler has the [shutdown timeout](crate::Server::shutdown_timeout) to finish; then
    /// it is aborted.
    ///
    /// # Cancel safety
    /// Nothing is lost: the next call completes as well.
    pub async fn shutdown_requested(&self) {
        self.shutdown.cancelled().await;
    }

    /// Returns whether the server's shutdown was requested.
    pub fn is_shutdown_requested(&self) -> bool {
        self.shutdown.is_cancelled()
    }
}

impl<A: fmt::Debug> fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("is_shutdown_requested", &self.is_shutdown_requested())
            .finish()
    }
}
