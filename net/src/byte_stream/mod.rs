//! Reading and writing, implemented once for all byte streams.
//!
//! Streams and their halves get their methods from the macros [`reading`] and [`writing`], so the
//! methods behave alike and have the same documentation everywhere.

use std::io::{self, IoSlice, IoSliceMut, PipeReader, Read};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net as unix;

use polyloop_executor::Tried;
use polyloop_reactor::socket::NO_SIGNAL;
use socket2::SockRef;

mod read;

mod write;

pub(crate) use read::{
    peeking, read, read_exact, read_exact_buf, read_vectored, reading, try_read, try_read_vectored,
};
pub(crate) use write::{
    try_write, try_write_vectored, write, write_all, write_all_buf, write_all_vectored,
    write_vectored, writing,
};

/// Reads bytes without waiting.
pub trait TryRead: AsFd + Send + Sync + 'static {
    /// Whether a read that returns fewer bytes than requested proves that no more are available,
    /// for a descriptor of the kind that the type names.
    const SHORT_IS_EMPTY: bool;

    /// Reads into one buffer.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Reads into several buffers.
    fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;
}

/// Writes bytes without waiting. Never raises `SIGPIPE`.
pub trait TryWrite: AsFd + Send + Sync + 'static {
    /// Writes from one buffer.
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Writes from several buffers.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
}

macro_rules! socket {
    ($socket:ty, short_is_empty: $short_is_empty:literal) => {
        impl TryRead for $socket {
            const SHORT_IS_EMPTY: bool = $short_is_empty;

            fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                (&*SockRef::from(self)).read(buf)
            }

            fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*SockRef::from(self)).read_vectored(bufs)
            }
        }

        impl TryWrite for $socket {
            fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                SockRef::from(self).send_with_flags(buf, NO_SIGNAL)
            }

            fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                SockRef::from(self).send_vectored_with_flags(bufs, NO_SIGNAL)
            }
        }
    };
}

socket!(net::TcpStream, short_is_empty: true);
// Linux ends a read at a message that carries descriptors, even if more bytes are queued.
socket!(unix::UnixStream, short_is_empty: false);

impl TryRead for PipeReader {
    const SHORT_IS_EMPTY: bool = true;

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut reader = self;
        reader.read(buf)
    }

    fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut reader = self;
        reader.read_vectored(bufs)
    }
}

/// Classifies a call that transferred `n_bytes` of `requested`.
///
/// If it transferred fewer, the next call would block. Zero is the end of the stream, which can be
/// read any number of times.
fn transferred(n_bytes: usize, requested: usize) -> (usize, Tried) {
    let is_short = n_bytes > 0 && n_bytes < requested;
    (n_bytes, if is_short { Tried::Short } else { Tried::Done })
}

/// Returns the index of the first slice that is not empty, or zero.
///
/// A call with nothing but empty slices transfers nothing, which would look like the end of the
/// stream.
fn first_nonempty<T: std::ops::Deref<Target = [u8]>>(bufs: &[T]) -> usize {
    bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0)
}
