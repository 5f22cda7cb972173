//! Print macros that end the program when its output is closed, as with `| head`, where those of the standard
//! library panic. Declared before the other modules with `#[macro_use]`, so that they use these.
//!
//! The program exits at once, without destructors: callers stop their child processes before they print.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

#[allow(unused_macros, reason = "not every program uses all of it")]
macro_rules! print {
    ($($text:tt)*) => {
        crate::print::write_out(format_args!($($text)*))
    };
}

#[allow(unused_macros, reason = "not every program uses all of it")]
macro_rules! println {
    () => {
        print!("\n")
    };
    ($($text:tt)*) => {
        print!("{}\n", format_args!($($text)*))
    };
}

/// Writes a line to stderr, or nothing if that fails.
#[allow(unused_macros, reason = "not every program uses all of it")]
macro_rules! eprintln {
    ($($text:tt)*) => {
        crate::print::complain(format_args!($($text)*))
    };
}

/// Writes to stdout.
pub(crate) fn write_out(text: Arguments<'_>) {
    match std::io::stdout().write_fmt(text) {
        Ok(()) => {}
        // The reader has closed the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            complain(format_args!("stdout: {error}"));
            std::process::exit(1)
        }
    }
}

/// Writes a line to stderr.
#[allow(dead_code, reason = "not every program uses all of it")]
pub(crate) fn complain(text: Arguments<'_>) {
    writeln!(std::io::stderr(), "{text}").ok();
}
