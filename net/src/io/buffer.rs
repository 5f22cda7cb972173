//! A buffer that exists only while it holds data or is being read into.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::Poll;

use super::Read;
use super::spare::{self, USUAL_BYTES};

/// Data that was read and is not yet consumed.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// The start of the data in `bytes`.
    start: usize,
    /// The end of the data in `bytes`.
    end: usize,
}

impl Buffer {
    /// Returns the data.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Consumes and returns the first `n_bytes` of the data.
    #[inline]
    pub(super) fn take(&mut self, n_bytes: usize) -> &[u8] {
        let start = self.start;
        self.start += n_bytes;
        debug_assert!(self.start <= self.end);
        &self.bytes[start..start + n_bytes]
    }

    /// Reads once, and appends to the data. Returns the number of bytes read; zero is the end.
    ///
    /// The data grows up to `limit` bytes, which it must not have reached. An empty buffer gets a capacity of
    /// at least `n_bytes`.
    ///
    /// While the read waits, an empty buffer is returned to the store, and a large one is exchanged for a
    /// usual one if the data fits: all connections may be idle at the same time.
    ///
    /// # Cancel safety
    /// No data is lost.
    pub(super) async fn read_from(
        &mut self,
        reader: &mut impl Read,
        n_bytes: usize,
        limit: usize,
    ) -> io::Result<usize> {
        let n_read = loop {
            let room = self.room(n_bytes, limit);
            let tried = {
                let mut read = pin!(reader.read(room));
                poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx))).await
            };
            if let Poll::Ready(n_read) = tried {
                break n_read?;
            }
            self.shrink();
            if !has_waited(reader.readable()).await? {
                // `readable` is not implemented, so this waits in `read`.
                break reader.read(self.room(n_bytes, limit)).await?;
            }
        };
        self.end += n_read;
        Ok(n_read)
    }

    /// Appends `bytes` to the data.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.end + bytes.len() > self.bytes.len() {
            // The cost of moving is proportional to the bytes consumed before.
            if self.start >= self.len() {
                self.move_to_front();
            }
            let needed = self.end + bytes.len();
            if needed > self.bytes.len() {
                self.exchange((self.len() + bytes.len()).max(2 * self.len()));
            }
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Returns free space behind the data.
    fn room(&mut self, n_bytes: usize, limit: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() < n_bytes.min(limit) {
                spare::give(mem::take(&mut self.bytes));
                self.bytes = spare::take(n_bytes.min(limit));
            }
        }
        let mut size = self.bytes.len().min(limit);
        if self.end == size && self.start > 0 {
            self.move_to_front();
        }
        if self.end == size {
            self.exchange((2 * self.end).min(limit));
            size = self.bytes.len().min(limit);
        }
        &mut self.bytes[self.end..size]
    }

    fn move_to_front(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.len());
    }

    /// Releases memory that is not needed while no data arrives.
    pub(super) fn shrink(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            spare::give(mem::take(&mut self.bytes));
        } else if self.bytes.len() >= 2 * USUAL_BYTES && self.len() < USUAL_BYTES {
            self.exchange(USUAL_BYTES);
        }
    }

    /// Moves the data into a buffer of at least `n_bytes`.
    fn exchange(&mut self, n_bytes: usize) {
        let mut other = spare::take(n_bytes);
        other[..self.len()].copy_from_slice(self.filled());
        (self.start, self.end) = (0, self.len());
        spare::give(mem::replace(&mut self.bytes, other));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        spare::give(mem::take(&mut self.bytes));
    }
}

/// Waits for `readable`, and returns whether it was pending.
async fn has_waited(readable: impl Future<Output = io::Result<()>>) -> io::Result<bool> {
    let mut readable = pin!(readable);
    let mut has_waited = false;
    poll_fn(|cx| {
        let poll = readable.as_mut().poll(cx);
        has_waited |= poll.is_pending();
        poll.map_ok(|()| has_waited)
    })
    .await
}
