//! An `AtomicU64` for targets without 64-bit atomics: powerpc, mips, old ARM, riscv32.
//!
//! It uses a mutex. Two atomics of 32 bits are not enough: a reader could combine the halves of two tokens
//! into a third one.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Provides the methods of the standard library's `AtomicU64` that this crate uses.
#[derive(Debug)]
pub(crate) struct AtomicU64(Mutex<u64>);

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> AtomicU64 {
        AtomicU64(Mutex::new(value))
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        *self.lock()
    }

    pub(crate) fn swap(&self, value: u64, _: Ordering) -> u64 {
        std::mem::replace(&mut *self.lock(), value)
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reader_combines_halves_of_two_values() {
        let value = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let old = value.swap(u64::MAX, Ordering::Relaxed);
                        assert!(old == 0 || old == u64::MAX, "{old:x}");
                        value.swap(0, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..1_000 {
                let seen = value.load(Ordering::Relaxed);
                assert!(seen == 0 || seen == u64::MAX, "{seen:x}");
            }
        });
    }
}
