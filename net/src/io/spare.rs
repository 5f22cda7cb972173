//! Buffers that nothing is in, kept for who needs one next on this thread.
//!
//! A connection that is idle holds no buffer, and one that is busy does not allocate one for each
//! message: both come from and go to this store, which is bounded. So memory follows the number of
//! connections in the middle of a message, and not the number of connections.

use std::cell::RefCell;

/// The size of the usual buffer: most lines fit, and it is read in few calls.
pub(super) const USUAL_BYTES: usize = 8 * 1_024;

/// The most buffers of the usual size that a thread keeps: more are rarely in use at once, since
/// a buffer is in use while a message is incomplete.
const MAX_USUAL: usize = 32;

/// The most bytes that a thread keeps in larger buffers.
const MAX_LARGE_BYTES: usize = 4 << 20;

/// The most of those, so that a search among them is short.
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

/// Takes a buffer of at least `n_bytes`; what is in it means nothing.
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
    // At the end of a thread there is no store any more.
    kept.ok().flatten().unwrap_or_else(|| vec![0; n_bytes.max(USUAL_BYTES)])
}

/// Gives a buffer back; one too many is freed.
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
