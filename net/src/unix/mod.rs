//! Unix-domain sockets.
//!
//! Addresses are paths of the file system. On Linux, a path that starts with a NUL byte, as in
//! `"\0name"`, is an abstract name: it is not in the file system and disappears with its socket.

mod address;

mod socket_file;

mod connect;

mod credentials;

mod passing;

mod stream;

mod listener;

mod datagram;

#[cfg(not(target_vendor = "apple"))]
mod seqpacket;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
#[cfg(not(target_vendor = "apple"))]
pub use seqpacket::{UnixSeqpacket, UnixSeqpacketListener};
pub use stream::UnixStream;
