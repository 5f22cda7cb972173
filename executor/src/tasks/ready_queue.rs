//! The queue of ready tasks.

use std::mem;

use crate::event_loop::shuffle::Shuffle;

/// A ready queue of up to this length keeps its capacity.
const TRIM_MIN: usize = 1_024;

/// The slots of ready tasks, first in, first out.
///
/// Two lists rather than a ring buffer: one is read while the other is filled, and they are swapped at the end of the
/// first.
pub(super) struct ReadyQueue {
    batch: Vec<u32>,
    /// How much of the batch has been read.
    n_read: usize,
    next: Vec<u32>,
    /// Shuffles each batch, if there is a seed.
    shuffle: Option<Shuffle>,
}

impl ReadyQueue {
    pub(super) fn new(shuffle: Option<Shuffle>) -> ReadyQueue {
        ReadyQueue { batch: Vec::new(), n_read: 0, next: Vec::new(), shuffle }
    }

    /// Reports whether one of the lists has so much capacity that it may have to be shrunk.
    #[inline]
    pub(super) fn is_roomy(&self) -> bool {
        self.batch.capacity().max(self.next.capacity()) >= 2 * TRIM_MIN
    }

    /// Halves the unused capacity of the lists.
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
