//! Lines, frames and copies for byte streams.
//!
//! Everything here works with any type that implements [`Read`] or [`Write`]: the streams of this crate,
//! bytes in memory, and user-defined types such as an encrypted stream.
//!
//! Data that was read and not yet returned is kept in the reader or copier and not in its futures. Dropping
//! a future therefore loses no data: the next call continues where the dropped one stopped.
//!
//! # Examples
//! ```
//! use polyloop::io::BufReader;
//! use polyloop::net::UnixStream;
//!
//! # polyloop::run(async {
//! let (client, server) = UnixStream::pair()?;
//! client.write_all(b"first line\nsecond line\n").await?;
//! drop(client);
//!
//! let mut reader = BufReader::new(server);
//! while let Some(line) = reader.next_line().await? {
//!     println!("{line}");
//! }
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap().unwrap();
//! ```

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

/// Reads bytes.
///
/// Implemented for the streams of this crate and references to them, and for byte slices in memory.
#[doc(alias = "AsyncRead")]
pub trait Read {
    /// Reads into `buf`, waiting until at least one byte is available.
    ///
    /// Returns the number of bytes read. Zero means that the stream has ended or that `buf` is empty.
    ///
    /// # Cancel safety
    /// An implementation must not lose data if the future is dropped. Everything in this module relies on
    /// that.
    fn read(&mut self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;

    /// Waits until a read is likely to return without waiting.
    ///
    /// Readers on top of this stream hold no buffer meanwhile. The default implementation returns at once;
    /// then they wait in `read`, with a buffer.
    ///
    /// # Cancel safety
    /// An implementation must not lose data if the future is dropped.
    fn readable(&mut self) -> impl Future<Output = io::Result<()>> {
        std::future::ready(Ok(()))
    }
}

/// Writes bytes.
///
/// Implemented for the streams of this crate and references to them, and for `Vec<u8>`.
#[doc(alias = "AsyncWrite")]
pub trait Write {
    /// Writes bytes from `buf`, waiting until at least one can be written.
    ///
    /// Returns the number of bytes written.
    ///
    /// # Cancel safety
    /// An implementation must not have written data if the future is dropped before it completes.
    /// Everything in this module relies on that.
    fn write(&mut self, buf: &[u8]) -> impl Future<Output = io::Result<usize>>;

    /// Shuts down the write direction: the reader reads the end of the stream after the data written before.
    ///
    /// For a pipe this does nothing; its stream ends when the writer is dropped.
    ///
    /// # Cancel safety
    /// The method can be called again.
    #[doc(alias = "close")]
    #[doc(alias = "write_eof")]
    fn shutdown(&mut self) -> impl Future<Output = io::Result<()>>;
}
