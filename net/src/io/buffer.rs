//! A buffer that is only there while something is in it, or is being read into it.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::Poll;

use super::Read;
use super::spare::{self, USUAL_BYTES};

/// Holds what was read and not yet handed on.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// What was read and not yet handed on: from here
    start: usize,
    /// to here.
    end: usize,
}

impl Buffer {
    /// Lends what was read and not yet handed on.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Hands on the first bytes.
    #[inline]
    pub(super) fn take(&mut self, n_bytes: usize) -> &[u8] {
        let begin = self.start;
        self.start += n_bytes;
        debug_assert!(self.start <= self.end);
        &self.bytes[begin..begin + n_bytes]
    }

    /// Reads once, behind what is there, which is less than `limit`: at least into `n_bytes` if
    /// nothing is there, and up to `limit` in all. Zero is the end.
    ///
    /// While nothing comes, the buffer is given back if nothing is in it, and exchanged for one of
    /// the usual size if that suffices: as many connections may be idle as there are.
    ///
    /// # Cancel safety
    /// No byte is lost.
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
                // It cannot tell, so the wait is for the read itself.
                break reader.read(self.room(n_bytes, limit)).await?;
            }
        };
        self.end += n_read;
        Ok(n_read)
    }

    /// Appends bytes of the program's own.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.end + bytes.len() > self.bytes.len() {
            // Moving no more than was handed on keeps the cost in proportion to that.
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

    /// Makes room behind what is there, and lends it.
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

    /// Gives back what is not needed as long as nothing comes.
    pub(super) fn shrink(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            spare::give(mem::take(&mut self.bytes));
        } else if self.bytes.len() >= 2 * USUAL_BYTES && self.len() < USUAL_BYTES {
            self.exchange(USUAL_BYTES);
        }
    }

    /// Moves what is there into a buffer of another size.
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

/// Waits for `readable`; returns whether it had to be waited for.
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
