//! Sockets, pipes and signals as futures, on polyloop's executor.
//!
//! [`AsyncFd`] pairs a file descriptor with the running loop: it tries an operation, waits for readiness if the
//! operation would block, and tries again. All other types are built on it.
//!
//! A socket belongs to no loop: it registers with each loop that it is used on. So it is `Send` and `Sync`, and
//! may be moved between loops.
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
