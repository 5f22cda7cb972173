//! Sockets that await.
//!
//! [`AsyncFd`] pairs a descriptor with the running loop: it tries an operation, and where that
//! would block it waits for readiness and tries again. Everything else here is built on it.
//!
//! A socket belongs to no loop. It registers with the loop on which it is first found to block,
//! and with another one if it is used there later, so it is `Send` and `Sync` and goes on working
//! wherever it is moved.
#![forbid(unsafe_code)]

mod async_fd;

mod backoff;

#[cfg(any(test, not(target_has_atomic = "64")))]
mod wide_atomic;

mod methods;

mod byte_stream;

mod split;

mod addr;

mod lookup;

mod accept;

mod units;

mod connect;

mod tcp;

mod udp;

mod unix;

mod pipe;

mod server;

pub mod io;

pub mod signal;

pub use accept::{Incoming, Listener};
pub use addr::ToAddrs;
pub use async_fd::AsyncFd;
pub use lookup::lookup_host;
pub use pipe::{PipeReader, PipeWriter, pipe};
pub use polyloop_reactor::Direction;
pub use polyloop_reactor::socket::{AcceptErrorKind, Credentials, Received, ReceivedFds};
pub use server::{Server, ServerEvent, ServerReport, Session, ShutdownHandle};
pub use split::{Connection, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use tcp::{Keepalive, TcpListener, TcpSocket, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};
#[cfg(not(target_vendor = "apple"))]
pub use unix::{UnixSeqpacket, UnixSeqpacketListener};
