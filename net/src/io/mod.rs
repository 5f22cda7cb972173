//! Streams of bytes, whatever they are made of: copying, lines, frames.
//!
//! Everything here keeps what it has read and not yet handed on in a value of its own, so that a
//! future that is dropped loses nothing: the same call goes on where it stopped.

use std::io;

mod impls;

mod copy;

mod buffer;

mod spare;

mod buf_reader;

mod find;

mod parts;

mod frames;

mod too_long;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod splice;

pub use buf_reader::BufReader;
pub use copy::{Copier, copy, copy_bidirectional};
pub use frames::{FrameReader, FrameWriter, Framing};
pub use parts::{Lines, Split};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use splice::Splicer;
pub use too_long::TooLong;

/// Is read from, byte by byte or many at a time.
///
/// Implemented for the streams of this crate, for references to them, and for slices in memory.
/// An implementation for a type of one's own, such as an encrypted stream, makes copying, lines
/// and frames work with it.
pub trait Read {
    /// Reads what is there, up to the size of `buf`, waiting for the first byte. Zero is the end
    /// (unless `buf` is empty).
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// No byte may be lost: everything in this module relies on it.
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Waits until a read is worth trying, without a buffer.
    ///
    /// An implementation that cannot tell is ready at once, which is the default; readers on top
    /// of it keep a buffer while they wait. One that waits here lets them do without.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Nothing may be lost.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
        std::future::ready(Ok(()))
    }
}

/// Is written to.
///
/// Implemented for the streams of this crate, for references to them, and for a `Vec` of bytes.
pub trait Write {
    /// Writes as much of `buf` as there is room for, waiting for the first byte's.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// Nothing may have been written if the future is dropped before it is ready: everything in
    /// this module relies on it.
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>>;

    /// Tells the reader that no more will come.
    ///
    /// A pipe says so when it is dropped, and not before.
    ///
    /// # Errors
    /// What the stream says.
    ///
    /// # Cancel safety
    /// It may be called again.
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>>;
}
