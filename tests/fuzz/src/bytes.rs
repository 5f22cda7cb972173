//! A peer's bytes, and the pieces in which they arrive.

use std::io;

use polyloop::io::Read;

/// Splits the fuzzer's bytes: two that control the pieces, and the data.
pub(crate) fn split(data: &[u8]) -> Option<(u8, u8, &[u8])> {
    let [first, second, rest @ ..] = data else { return None };
    Some((*first, *second, rest))
}

/// A stream whose bytes arrive in pieces of varying sizes, some after a pending poll.
pub(crate) struct Pieces<'a> {
    bytes: &'a [u8],
    /// Determines the sizes.
    state: u8,
    step: u8,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], seed: u8) -> Pieces<'a> {
        Pieces { bytes, state: seed, step: seed | 1 }
    }
}

impl Read for Pieces<'_> {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.state = self.state.wrapping_mul(5).wrapping_add(self.step);
        if self.state.is_multiple_of(4) {
            polyloop::yield_now().await;
        }
        let size = usize::from(self.state >> 2) % 40 + 1;
        let size = size.min(buf.len()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(size);
        buf[..size].copy_from_slice(piece);
        self.bytes = rest;
        Ok(size)
    }
}
