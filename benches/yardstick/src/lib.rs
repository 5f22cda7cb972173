//! What selectors are measured against.
//!
//! - [`bare`]: a loop over each mechanism with nothing between it and the C library. What a
//!   selector takes longer than that is its own price.
//! - [`classic`]: libevent's benchmark, over a selector or a bare loop, and the same work in
//!   the handlers of both.
//! - [`clock`] and [`limits`]: the time of one thread, and room for many descriptors.
//! - [`sigio`] and [`ring`]: the two mechanisms that no selector has, for the example
//!   `five_io_models`.
//!
//! The program of this package is the report: see `docs/backends.md`.
//!
//! Besides the rooms that ship, this is the only place with unsafe code: bare calls are what it
//! is for.

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

/// Turns the -1 of a failed call into the error that `errno` holds.
#[inline]
fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
