//! The limit on open descriptors.

use std::io;

use crate::cvt;

/// Raises the limit on open descriptors to `n_wanted` as far as allowed, and returns the new limit.
pub fn raise_open_files(n_wanted: libc::rlim_t) -> io::Result<libc::rlim_t> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a local that is valid for writes.
    cvt(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    // The second value only helps those with the right to raise the hard limit.
    for n_files in [n_wanted, limit.rlim_max] {
        let raised = libc::rlimit { rlim_cur: n_files, rlim_max: limit.rlim_max.max(n_files) };
        if n_files > limit.rlim_cur {
            // SAFETY: `raised` is a local that is valid for reads.
            let result = cvt(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) });
            if result.is_ok() {
                return Ok(n_files);
            }
        }
    }
    Ok(limit.rlim_cur)
}
