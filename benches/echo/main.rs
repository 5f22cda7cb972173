//! The server's cost of an echo: polyloop on each backend beside bare epoll loops.
//!
//! `cargo bench --bench echo` runs every server in a separate process, pinned to one core, with the load on
//! another, in interleaved rounds. It prints the medians of the server's processor time per message, as the
//! kernel accounts it: that time is more stable than throughput. Both sides use the congestion control *reno*,
//! because bbr, the default of some machines, slows a loopback echo to a third after a second.
//!
//! `cargo bench --bench echo -- [--rounds N] [--seconds S] [--row WORDS]` sets the rounds, their length and
//! the rows. Ten thousand connections need as many descriptors in both processes (`ulimit -n`).

#[macro_use]
#[path = "../print.rs"]
mod print;

mod answers;
mod bare;
mod load;
mod ours;
mod report;
mod served;
mod server;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use report::{Candidates, Options, ROWS};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let result = match arguments.first().map(String::as_str) {
        Some("serve") => served::serve(arguments.get(1).map_or("", String::as_str)),
        // What `cargo test --benches` passes.
        Some("--test") => Ok(()),
        _ => compare(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &[String]) -> io::Result<()> {
    let mut options = Options { rounds: 5, duration: Duration::from_secs(1) };
    let mut words = "";
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--rounds" => {
                options.rounds = value.parse().map_err(io::Error::other)?;
            }
            [name, value] if name == "--seconds" => {
                let seconds = value.parse().map_err(io::Error::other)?;
                options.duration = Duration::from_secs_f64(seconds);
            }
            [name, value] if name == "--row" => words = value,
            other => return Err(io::Error::other(format!("unknown arguments: {other:?}"))),
        }
    }
    let candidates = Candidates {
        names: served::SERVERS,
        n_yardsticks: 1,
        start: served::start,
        has_row: served::has_row,
    };
    let rows: Vec<_> = ROWS.iter().filter(|(title, _)| title.contains(words)).copied().collect();
    report::compare(&options, &candidates, &rows)?;
    if words.is_empty() {
        answers::compare(&options)?;
    }
    Ok(())
}
