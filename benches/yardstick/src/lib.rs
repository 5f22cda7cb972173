//! Bare loops over the mechanisms of the selectors, to measure the selectors against.
//!
//! - [`bare`]: a loop over each mechanism that calls the C library directly. The additional time of a selector is
//!   its overhead.
//! - [`classic`]: libevent's benchmark, over a selector or a bare loop, with the same work in
//!   the handlers of both.
//! - [`clock`] and [`limits`]: the time of one thread, and room for many descriptors.
//! - [`sigio`] and [`ring`]: two mechanisms without a selector, for the example
//!   `five_io_models`.
//!
//! The program of this package writes the report: see `docs/backends.md`.
//!
//! It contains unsafe code, since bare system calls are its purpose.

pub mod bare;

pub mod classic;

pub mod clock;

pub mod limits;

pub mod sigio;

// The crate `io-uring` refuses to be compiled for any other; `Cargo.toml` has the same list.
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(
            target_arch = "x86_64",
            target_arch = "aarch64",
            target_arch = "riscv64",
            target_arch = "loongarch64",
            target_arch = "powerpc64",
        )
    )),
    path = "no_ring.rs"
)]
pub mod ring;

use std::io;

/// Converts the -1 of a failed call to the error in `errno`.
#[inline]
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
