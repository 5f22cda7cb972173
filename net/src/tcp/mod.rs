//! TCP.

mod socket;

mod connect;

mod listener;

mod stream;

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_vendor = "apple"
))]
mod send_file;

pub use listener::TcpListener;
pub use socket::{Keepalive, TcpSocket};
pub use stream::TcpStream;
