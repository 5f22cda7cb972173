//! What an operation costs beside ever more waiters: a line should be flat, but for the caches.
//!
//! ```text
//! cargo bench --bench waiters [-- WORDS OF A NAME]
//! ```
//! `polyloop-compare -- waiters` draws the same curves for the peers. For another curve, add it to the
//! list of its file; for another table of waiters, add a file.

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
