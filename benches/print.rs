//! Printing that ends the program when its output is not read any more, as after `| head`; the standard
//! library's macros panic. In front of the other modules (`#[macro_use]`), so that it is theirs as well.
//!
//! The end is at once and runs no destructor: what has to be stopped is stopped before printing.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

#[allow(unused_macros, reason = "each program uses its own share")]
macro_rules! print {
    ($($text:tt)*) => {
        crate::print::write_out(format_args!($($text)*))
    };
}

#[allow(unused_macros, reason = "each program uses its own share")]
macro_rules! println {
    () => {
        print!("\n")
    };
    ($($text:tt)*) => {
        print!("{}\n", format_args!($($text)*))
    };
}

/// Writes a line to stderr, or nothing if that fails.
#[allow(unused_macros, reason = "each program uses its own share")]
macro_rules! eprintln {
    ($($text:tt)*) => {
        crate::print::complain(format_args!($($text)*))
    };
}

/// Writes to stdout.
pub(crate) fn write_out(text: Arguments<'_>) {
    match std::io::stdout().write_fmt(text) {
        Ok(()) => {}
        // The reader has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            complain(format_args!("stdout: {error}"));
            std::process::exit(1)
        }
    }
}

/// Writes a line to stderr.
#[allow(dead_code, reason = "each program uses its own share")]
pub(crate) fn complain(text: Arguments<'_>) {
    writeln!(std::io::stderr(), "{text}").ok();
}
