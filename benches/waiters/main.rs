//! The cost of an operation by the number of waiters: a row should be flat, except for cache effects.
//!
//! ```text
//! cargo bench --bench waiters [-- WORDS OF A NAME]
//! ```
//! `polyloop-compare -- waiters` prints the same curves for the peers. Add a curve to the list of its file; add
//! a file for another kind of waiters.

#[macro_use]
#[path = "../print.rs"]
mod print;

mod curve;
mod tasks;
mod tokens;

use std::env;

fn main() {
    let filter = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let curves = [tokens::CURVES, tasks::CURVES].into_iter().flatten();
    curve::print_curves(curves, &filter.unwrap_or_default());
}
