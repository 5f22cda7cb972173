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

mod addr;

mod tcp;

pub mod signal;

pub use addr::ToAddrs;
pub use async_fd::AsyncFd;
pub use polyloop_reactor::Direction;
pub use tcp::{
    Incoming, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, TcpListener, TcpStream,
    WriteHalf,
};
