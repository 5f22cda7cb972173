//! TCP.

mod socket;

mod connect;

mod listener;

mod stream;

pub use listener::{Incoming, TcpListener};
pub use socket::{Keepalive, TcpSocket};
pub use stream::TcpStream;
