//! System calls that the kernel lacks or a sandbox refuses, detected once.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Remembers for the whole process whether a system call is refused.
///
/// Old kernels return `ENOSYS`, and the filters of sandboxes (seccomp) `ENOSYS` or `EPERM`. Both are
/// ordinary errors as well: a firewall, for instance, returns `EPERM` for one message or connection. A
/// probe with a descriptor that does not exist decides: a call that is carried out detects that, a
/// refused one does not.
#[derive(Debug)]
pub(super) struct Refusal {
    is_known: AtomicBool,
}

impl Refusal {
    pub(super) const fn new() -> Refusal {
        Refusal { is_known: AtomicBool::new(false) }
    }

    /// Makes `call`, or `plain` if `call` is refused. `probe` makes the same call with the descriptor -1.
    #[inline]
    pub(super) fn or_else<T>(
        &self,
        call: impl FnOnce() -> io::Result<T>,
        probe: impl FnOnce() -> io::Result<T>,
        plain: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(call, probe).unwrap_or_else(plain)
    }

    /// Makes `call`. Returns `None` if it is refused.
    #[inline]
    pub(super) fn call<T>(
        &self,
        call: impl FnOnce() -> io::Result<T>,
        probe: impl FnOnce() -> io::Result<T>,
    ) -> Option<io::Result<T>> {
        // Relaxed: it decides only which call is made.
        if self.is_known.load(Ordering::Relaxed) {
            return None;
        }
        match call() {
            Err(error) if is_refusal(&error) && is_refused(probe) => {
                self.is_known.store(true, Ordering::Relaxed);
                None
            }
            result => Some(result),
        }
    }
}

/// Returns whether `probe`, a call with the descriptor -1, is refused.
pub(super) fn is_refused<T>(probe: impl FnOnce() -> io::Result<T>) -> bool {
    probe().is_err_and(|error| is_refusal(&error))
}

/// Returns whether an error may be that of a sandbox.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn fails<T>(errno: i32) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_call_that_is_refused_is_tried_once() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let refusal = Refusal::new();
            let n_calls = Cell::new(0);
            for _ in 0..3 {
                let call = || {
                    n_calls.set(n_calls.get() + 1);
                    fails(errno)
                };
                assert_eq!(refusal.or_else(call, || fails(errno), || Ok(7)).unwrap(), 7);
            }
            assert_eq!(n_calls.get(), 1);
        }
    }

    #[test]
    fn an_error_of_one_message_or_connection_is_no_refusal() {
        let refusal = Refusal::new();
        let plain = || -> io::Result<i32> { panic!("the call is there") };
        let error = refusal.or_else(|| fails(libc::EPERM), || fails(libc::EBADF), plain);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(refusal.or_else(|| Ok(1), || panic!("nothing to probe"), plain).unwrap(), 1);
        let error = refusal.or_else(|| fails(libc::EAGAIN), || panic!("nothing to probe"), plain);
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    }
}
