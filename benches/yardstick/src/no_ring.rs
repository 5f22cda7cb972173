//! Replaces `ring.rs` on systems without a completion ring: a [`Ring`] cannot be opened.

use std::convert::Infallible;
use std::io;
use std::net::UdpSocket;

/// A completion ring, which does not exist on this system.
#[derive(Debug)]
pub struct Ring(Infallible);

impl Ring {
    /// Fails.
    ///
    /// # Errors
    /// Always, with the kind `Unsupported`.
    pub fn new(_n_sockets: usize) -> io::Result<Ring> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no io_uring"))
    }

    /// Adds a socket.
    pub fn add(&mut self, _socket: UdpSocket, _n_bytes: usize) -> usize {
        match self.0 {}
    }

    /// Returns the socket's buffer.
    pub fn buffer_mut(&mut self, _number: usize) -> &mut [u8] {
        match self.0 {}
    }

    /// Requests a datagram.
    pub fn receive(&mut self, _number: usize) {
        match self.0 {}
    }

    /// Requests that an answer be sent and another datagram received.
    pub fn answer(&mut self, _number: usize, _n_bytes: usize) {
        match self.0 {}
    }

    /// Waits for datagrams.
    ///
    /// # Errors
    /// Never: it is not called.
    pub fn turn(&mut self, _received: &mut Vec<(usize, usize)>) -> io::Result<()> {
        match self.0 {}
    }

    /// Returns the number of system calls.
    pub fn n_enters(&self) -> u64 {
        match self.0 {}
    }
}
