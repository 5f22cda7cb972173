//! The queue of the tasks that are ready.

use std::mem;

use crate::event_loop::shuffle::Shuffle;

/// A ready queue of up to this length keeps its room.
const TRIM_MIN: usize = 1_024;

/// The slots whose tasks are to be polled, first in first out.
///
/// Two lists rather than a ring: one is read from front to back while the other is filled, and
/// when the first is at its end they change places.
pub(super) struct ReadyQueue {
    batch: Vec<u32>,
    /// How much of the batch has been read.
    n_read: usize,
    next: Vec<u32>,
    /// Mixes each batch, if a test asks for it.
    shuffle: Option<Shuffle>,
}

impl ReadyQueue {
    pub(super) fn new(shuffle: Option<Shuffle>) -> ReadyQueue {
        ReadyQueue { batch: Vec::new(), n_read: 0, next: Vec::new(), shuffle }
    }

    /// Reports whether one of the lists is so long that it may have to be shortened.
    #[inline]
    pub(super) fn is_roomy(&self) -> bool {
        self.batch.capacity().max(self.next.capacity()) >= 2 * TRIM_MIN
    }

    /// Halves what the lists hold without need.
    #[cold]
    pub(super) fn trim(&mut self) {
        for list in [&mut self.batch, &mut self.next] {
            let half = list.capacity() / 2;
            if half >= TRIM_MIN && half > 2 * list.len() {
                list.shrink_to(half);
            }
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.batch.len() - self.n_read + self.next.len()
    }

    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        self.next.push(index);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        if self.n_read == self.batch.len() {
            self.batch.clear();
            self.n_read = 0;
            mem::swap(&mut self.batch, &mut self.next);
            if let Some(shuffle) = &mut self.shuffle {
                shuffle.mix(&mut self.batch);
            }
        }
        let index = *self.batch.get(self.n_read)?;
        self.n_read += 1;
        Some(index)
    }
}
