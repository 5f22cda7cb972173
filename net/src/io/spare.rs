//! A per-thread store of unused buffers.
//!
//! An idle connection returns its buffer to the store, and a busy one takes it from there instead of
//! allocating. The store is bounded. So memory grows with the number of connections that have received part
//! of a message, and not with the number of connections.

use std::cell::RefCell;

/// The size of a usual buffer in bytes. Most lines fit.
pub(super) const USUAL_BYTES: usize = 8 * 1_024;

/// The maximum number of usual buffers in the store. More are rarely in use at once, since a buffer is in
/// use only while a message is incomplete.
const MAX_USUAL: usize = 32;

/// The maximum size of all larger buffers in the store, in bytes.
const MAX_LARGE_BYTES: usize = 4 << 20;

/// The maximum number of larger buffers, which bounds the search for one.
const MAX_LARGE: usize = 8;

struct Spare {
    usual: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    n_large_bytes: usize,
}

thread_local! {
    static SPARE: RefCell<Spare> =
        const { RefCell::new(Spare { usual: Vec::new(), large: Vec::new(), n_large_bytes: 0 }) };
}

/// Takes a buffer of at least `n_bytes` with unspecified contents.
pub(super) fn take(n_bytes: usize) -> Vec<u8> {
    let kept = SPARE.try_with(|spare| {
        let spare = &mut *spare.borrow_mut();
        if n_bytes <= USUAL_BYTES {
            return spare.usual.pop();
        }
        let large = spare.large.iter().enumerate().filter(|(_, buf)| buf.len() >= n_bytes);
        let (smallest, _) = large.min_by_key(|(_, buf)| buf.len())?;
        let buf = spare.large.swap_remove(smallest);
        spare.n_large_bytes -= buf.len();
        Some(buf)
    });
    // The store is gone while the thread ends.
    kept.ok().flatten().unwrap_or_else(|| vec![0; n_bytes.max(USUAL_BYTES)])
}

/// Returns a buffer to the store, or frees it if the store is full.
pub(super) fn give(buf: Vec<u8>) {
    if buf.len() < USUAL_BYTES {
        return;
    }
    let _ = SPARE.try_with(|spare| {
        let spare = &mut *spare.borrow_mut();
        if buf.len() < 2 * USUAL_BYTES {
            if spare.usual.len() < MAX_USUAL {
                spare.usual.push(buf);
            }
        } else if spare.n_large_bytes + buf.len() <= MAX_LARGE_BYTES
            && spare.large.len() < MAX_LARGE
        {
            spare.n_large_bytes += buf.len();
            spare.large.push(buf);
        }
    });
}
