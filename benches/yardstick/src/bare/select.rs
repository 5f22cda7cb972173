//! select(2), bare, but not naive: it examines a word of the set at a time.

use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::Bare;
use crate::cvt;

// The words of the system's own type. A wrong guess would not compile (see below) or, on a
// machine that stores the high byte first, would find the wrong descriptors.
#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly"
))]
type Word = libc::c_ulong;
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly"
)))]
type Word = u32;

const CAPACITY: usize = size_of::<libc::fd_set>() * 8;
const WORD_BITS: usize = Word::BITS as usize;

#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct FdSet([Word; CAPACITY / WORD_BITS]);

const _: () = assert!(size_of::<FdSet>() == size_of::<libc::fd_set>());

impl FdSet {
    fn new() -> FdSet {
        FdSet([0; CAPACITY / WORD_BITS])
    }

    #[inline]
    fn put(&mut self, fd: usize, member: bool) {
        let (word, bit) = (&mut self.0[fd / WORD_BITS], 1 << (fd % WORD_BITS));
        if member { *word |= bit } else { *word &= !bit }
    }
}

/// Waits with select(2).
#[derive(Debug)]
pub struct Select {
    read: FdSet,
    write: FdSet,
    n_fds: usize,
    n_added: usize,
    positions: [u32; CAPACITY],
}

impl Select {
    /// Opens an empty set.
    pub fn new() -> Select {
        let (read, write) = (FdSet::new(), FdSet::new());
        Select { read, write, n_fds: 0, n_added: 0, positions: [0; CAPACITY] }
    }
}

impl Default for Select {
    fn default() -> Select {
        Select::new()
    }
}

impl Bare for Select {
    const HAS_CONTROL_CALLS: bool = false;

    #[inline]
    fn add(&mut self, fd: RawFd) -> io::Result<()> {
        let fd = fd as usize;
        // Out of bounds panics, for a descriptor that is too large for the set.
        self.positions[fd] = self.n_added as u32;
        self.read.put(fd, true);
        self.n_fds = self.n_fds.max(fd + 1);
        self.n_added += 1;
        Ok(())
    }

    #[inline]
    fn modify(&mut self, fd: RawFd, and_writing: bool) -> io::Result<()> {
        self.write.put(fd as usize, and_writing);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, fd: RawFd) -> io::Result<()> {
        self.read.put(fd as usize, false);
        self.write.put(fd as usize, false);
        self.n_added -= 1;
        if self.n_added == 0 {
            self.n_fds = 0;
        }
        Ok(())
    }

    #[inline]
    fn turn(&mut self, wait: bool, mut on_ready: impl FnMut(usize)) -> io::Result<()> {
        let mut found = self.read.clone();
        let mut zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let timeout = if wait { ptr::null_mut() } else { ptr::from_mut(&mut zero) };
        let n_fds = self.n_fds as libc::c_int;
        let read = ptr::from_mut(&mut found).cast::<libc::fd_set>();
        let none = ptr::null_mut();
        // SAFETY: `found` is a local with the size of an `fd_set`, `n_fds` is at most its
        // capacity, and the timeout is null or points to a local.
        let mut n_left = cvt(unsafe { libc::select(n_fds, read, none, none, timeout) })?;
        for (index, word) in found.0.iter().enumerate() {
            let mut word = *word;
            while word != 0 {
                let fd = index * WORD_BITS + word.trailing_zeros() as usize;
                word &= word - 1;
                n_left -= 1;
                on_ready(self.positions[fd] as usize);
            }
            if n_left == 0 {
                break;
            }
        }
        Ok(())
    }
}
