//! Compares polyloop with its peers.
//!
//! ```text
//! cargo run --release -p polyloop-compare -- [executor|threads|timers|memory|echo|waiters|all]
//!     [--rounds N] [--row WORDS] [--peer WORDS]
//! ```
//! Each round measures every row for every runtime, one after the other on one processor, so that disturbances
//! affect all of them. The output is the median of the rounds, and the ratio to tokio's current-thread runtime
//! in the same run. In the table `echo` each server is a separate process (see `echo/mod.rs`). The table
//! `waiters` has curves, with the minimum of several measurements.

#[macro_use]
#[path = "../../print.rs"]
mod print;

mod echo;
mod machine;
mod peer;
mod peers;
mod rows;
mod waiters;

use std::env;
use std::process::{Command, ExitCode};

use crate::peer::Peer;
use crate::peers::{Floor, Polyloop, PolyloopShared, Smol, Tokio, TokioLocal};
use crate::rows::{Row, TABLES};

type Measure = fn(Row) -> Result<Option<f64>, String>;

/// The runtimes; the one that ratios refer to comes first.
const PEERS: &[(&str, Measure)] = &[
    (Tokio::NAME, Row::measure::<Tokio>),
    (Polyloop::NAME, Row::measure::<Polyloop>),
    (PolyloopShared::NAME, Row::measure::<PolyloopShared>),
    (Floor::NAME, Row::measure::<Floor>),
    (TokioLocal::NAME, Row::measure::<TokioLocal>),
    (Smol::NAME, Row::measure::<Smol>),
    #[cfg(target_os = "linux")]
    (peers::Monoio::NAME, Row::measure::<peers::Monoio>),
    #[cfg(target_os = "linux")]
    (peers::Compio::NAME, Row::measure::<peers::Compio>),
    #[cfg(target_os = "linux")]
    (peers::Glommio::NAME, Row::measure::<peers::Glommio>),
];

struct Options {
    table: String,
    n_rounds: usize,
    row: String,
    peer: String,
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let mut options =
        Options { table: "all".into(), n_rounds: 5, row: String::new(), peer: String::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--rounds" => options.n_rounds = value().parse().unwrap_or(5).max(1),
            "--row" => options.row = value(),
            "--peer" => options.peer = value(),
            "--child" => return be_child(&value(), &value()),
            "--serve" => return end(echo::serve(&value())),
            table
                if table == "all"
                    || table == echo::TABLE
                    || table == waiters::TABLE
                    || TABLES.iter().any(|(name, _)| *name == table) =>
            {
                options.table = table.into();
            }
            unknown => {
                eprintln!(
                    "unknown argument {unknown:?}; see the top of benches/compare/src/main.rs"
                );
                return ExitCode::from(2);
            }
        }
    }
    machine::pin_main();
    println!("{}\n", machine::describe());
    for (name, rows) in TABLES {
        if options.table == "all" || options.table == name {
            let rows: Vec<_> =
                rows.iter().filter(|row| row.title().contains(&options.row)).copied().collect();
            if !rows.is_empty() {
                print_table(name, &rows, &options);
            }
        }
    }
    if options.table == "all" || options.table == waiters::TABLE {
        waiters::print_table(&options.row);
    }
    if options.table == "all" || options.table == echo::TABLE {
        return end(echo::print_table(options.n_rounds, &options.row, &|peer| {
            peer.contains(&options.peer) && is_able(peer, echo::TABLE)
        }));
    }
    ExitCode::SUCCESS
}

fn end(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_table(name: &str, rows: &[Row], options: &Options) {
    let peers: Vec<_> = PEERS
        .iter()
        .filter(|(peer, _)| *peer == Tokio::NAME || peer.contains(&options.peer))
        .filter(|(peer, _)| is_able(peer, name))
        .collect();
    print!("| {name} |");
    for (peer, _) in &peers {
        print!(" {peer} |");
    }
    println!("\n|---|{}", "---:|".repeat(peers.len()));
    for row in rows {
        let mut rounds: Vec<Vec<f64>> = vec![Vec::new(); peers.len()];
        for _ in 0..options.n_rounds {
            for (values, (peer, measure)) in rounds.iter_mut().zip(&peers) {
                if !has_row(peer, *row) {
                    continue;
                }
                let value = if row.needs_process() {
                    measure_in_child(peer, *row)
                } else {
                    measure(*row).ok().flatten()
                };
                values.extend(value);
            }
        }
        let medians: Vec<_> = rounds.into_iter().map(median).collect();
        print!("| {} |", row.title());
        let reference = medians.first().copied().flatten();
        for (i, value) in medians.iter().enumerate() {
            match (value, reference) {
                (None, _) => print!(" – |"),
                (Some(value), Some(reference)) if i > 0 => {
                    print!(" {} ({:.2}) |", round(*value), value / reference);
                }
                (Some(value), _) => print!(" {} |", round(*value)),
            }
        }
        println!();
    }
    println!();
}

/// Reports whether a runtime can start here, and prints a message if not.
fn is_able(peer: &str, table: &str) -> bool {
    let made = match peer {
        #[cfg(target_os = "linux")]
        "monoio" => peers::Monoio::make().map(drop),
        #[cfg(target_os = "linux")]
        "compio" => peers::Compio::make().map(drop),
        #[cfg(target_os = "linux")]
        "glommio" => peers::Glommio::make().map(drop),
        _ => Ok(()),
    };
    if let Err(error) = &made {
        println!("{peer} is left out of {table}: it cannot start here ({error})\n");
    }
    made.is_ok()
}

/// The floor has no threads, timers or channels; the second polyloop is only there for its channel.
fn has_row(peer: &str, row: Row) -> bool {
    match peer {
        _ if peer == Floor::NAME => matches!(
            row,
            Row::SpawnAwait
                | Row::SpawnMany
                | Row::Yield(_)
                | Row::BlockOnReady
                | Row::AsyncChannelRoundTrip
                | Row::ResidentTask
        ),
        _ if peer == PolyloopShared::NAME => row == Row::OwnRoundTrip,
        // It aborts the program at the 32,768th waker of a task.
        "glommio" => !matches!(row, Row::ArmDrop(1_000_000) | Row::Arm | Row::ResidentTimer),
        _ => true,
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn round(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn measure_in_child(peer: &str, row: Row) -> Option<f64> {
    let program = env::current_exe().ok()?;
    let output = Command::new(program).args(["--child", peer, &row.title()]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Measures one row of one runtime and prints the figure.
fn be_child(peer: &str, title: &str) -> ExitCode {
    let peer = PEERS.iter().find(|(name, _)| *name == peer);
    let row = TABLES.iter().flat_map(|(_, rows)| *rows).find(|row| row.title() == title);
    let (Some((_, measure)), Some(row)) = (peer, row) else { return ExitCode::from(2) };
    match measure(*row) {
        Ok(Some(value)) => println!("{value}"),
        Ok(None) => {}
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::SUCCESS
}
