//! Rounds, medians and the table.

use std::io;
use std::time::{Duration, Instant};

use super::load::{Clients, Load, come_and_go};
use super::server::{Server, pin_to_second_core};

/// How long to measure.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
}

/// The servers to compare.
pub(crate) struct Candidates<'a> {
    /// Ratios refer to the first ones.
    pub(crate) names: &'a [&'a str],
    pub(crate) n_yardsticks: usize,
    pub(crate) start: fn(&str) -> io::Result<Server>,
    /// Reports whether a candidate is measured in a row.
    pub(crate) has_row: fn(&str, Row) -> bool,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// The server's processor time per message.
    Messages(Load),
    /// Round trips per second with one client.
    Answers,
    /// Connections per second, each for one message.
    ComeAndGo,
    /// The server's processor time per short connection.
    ComeAndGoCpu,
    /// The server's resident bytes per idle connection.
    Idle,
}

/// All rows, in their order.
pub(crate) const ROWS: &[(&str, Row)] = &[
    ("1 × 64 B, µs per message", Row::Messages(load(1, 64, 1))),
    ("50 × 64 B, µs per message", Row::Messages(load(50, 64, 1))),
    ("1,000 × 64 B, µs per message", Row::Messages(load(1_000, 64, 1))),
    ("50 × 16 KiB, µs per message", Row::Messages(load(50, 16 * 1024, 1))),
    ("50 × 64 B, 16 in flight, µs per message", Row::Messages(load(50, 64, 16))),
    ("one client, round trips per second", Row::Answers),
    ("short connections per second", Row::ComeAndGo),
    ("short connections, µs each", Row::ComeAndGoCpu),
    ("10,000 idle connections, bytes each", Row::Idle),
];

const fn load(n_connections: usize, n_bytes: usize, n_in_flight: usize) -> Load {
    Load { n_connections, n_bytes, n_in_flight }
}

impl Row {
    /// The connections that stay open.
    pub(crate) fn load(self) -> Load {
        match self {
            Row::Messages(load) => load,
            Row::Answers => load(1, 64, 1),
            Row::ComeAndGo | Row::ComeAndGoCpu => load(0, 64, 1),
            Row::Idle => load(10_000, 64, 1),
        }
    }

    /// The text of the median.
    fn show(self, figure: f64) -> String {
        match self {
            Row::Messages(_) | Row::ComeAndGoCpu => format!("{:.2}", figure / 1_000.0),
            Row::Answers | Row::ComeAndGo | Row::Idle => format!("{figure:.0}"),
        }
    }
}

/// A server and its clients.
struct Candidate {
    name: String,
    server: Server,
    clients: Clients,
    /// The figure of each round.
    figures: Vec<f64>,
}

impl Candidate {
    fn start(candidates: &Candidates<'_>, name: &str, row: Row) -> io::Result<Candidate> {
        let server = (candidates.start)(name)?;
        let mut load = row.load();
        if row == Row::Idle {
            // They connect during the measurement.
            load.n_connections = 0;
        }
        let clients = Clients::connect(server.addr, load)?;
        Ok(Candidate { name: name.to_owned(), server, clients, figures: Vec::new() })
    }

    fn measure(&mut self, row: Row, duration: Duration) -> io::Result<f64> {
        let (before, start) = (self.server.cpu_ns()?, Instant::now());
        let resident = self.server.resident()?;
        let n = match row {
            Row::Messages(_) | Row::Answers => self.clients.talk(duration)?,
            Row::ComeAndGo | Row::ComeAndGoCpu => come_and_go(self.server.addr, duration)?,
            Row::Idle => {
                self.clients = Clients::connect(self.server.addr, row.load())?;
                self.clients.talk(Duration::ZERO)?
            }
        };
        Ok(match row {
            Row::Messages(_) | Row::ComeAndGoCpu => {
                (self.server.cpu_ns()? - before) as f64 / n as f64
            }
            Row::Answers | Row::ComeAndGo => n as f64 / start.elapsed().as_secs_f64(),
            Row::Idle => self.server.resident()?.saturating_sub(resident) as f64 / n as f64,
        })
    }
}

/// Measures all candidates in the given rows, round by round, and prints the table.
pub(crate) fn compare(
    options: &Options,
    candidates: &Candidates<'_>,
    rows: &[(&str, Row)],
) -> io::Result<()> {
    pin_to_second_core()?;
    let yardsticks = candidates.names[..candidates.n_yardsticks].join(", ÷ ");
    println!("server CPU, median of {} rounds; (÷ {yardsticks})\n", options.rounds);
    println!("| echo | {} |", candidates.names.join(" | "));
    println!("|---|{}", "---:|".repeat(candidates.names.len()));
    for (title, row) in rows {
        println!("| {title} | {} |", measure_row(options, candidates, *row)?.join(" | "));
    }
    Ok(())
}

/// Returns the cells of one row.
fn measure_row(
    options: &Options,
    candidates: &Candidates<'_>,
    row: Row,
) -> io::Result<Vec<String>> {
    let mut measured = Vec::new();
    for name in candidates.names {
        let mut candidate = None;
        if (candidates.has_row)(name, row) {
            let mut started = Candidate::start(candidates, name, row)?;
            if row != Row::Idle {
                // Every connection is accepted before the first round.
                started.measure(row, options.duration / 10)?;
            }
            candidate = Some(started);
        }
        measured.push(candidate);
    }
    // The memory of a connection is the same each time.
    let n_rounds = if row == Row::Idle { 1 } else { options.rounds };
    for _ in 0..n_rounds {
        for place in &mut measured {
            let Some(candidate) = place else { continue };
            match candidate.measure(row, options.duration) {
                Ok(figure) => candidate.figures.push(figure),
                Err(error) => {
                    // If one server stalls, the others are still measured.
                    eprintln!("echo: {}: {error}", candidate.name);
                    *place = None;
                    continue;
                }
            }
            if row == Row::Idle {
                // The next candidate needs their descriptors.
                candidate.clients = Clients::connect(candidate.server.addr, load(0, 0, 0))?;
            }
        }
    }
    let yardsticks = measured[..candidates.n_yardsticks].iter().flatten();
    let yardsticks: Vec<Vec<f64>> = yardsticks.map(|yardstick| yardstick.figures.clone()).collect();
    Ok(measured.iter().map(|candidate| cell(candidate.as_ref(), &yardsticks, row)).collect())
}

fn cell(candidate: Option<&Candidate>, yardsticks: &[Vec<f64>], row: Row) -> String {
    let Some(Candidate { figures, .. }) = candidate else { return "–".to_owned() };
    let ratios = yardsticks.iter().map(|yardstick| {
        let ratios = figures.iter().zip(yardstick).map(|(figure, yardstick)| figure / yardstick);
        format!("{:.3}", median(ratios.collect()))
    });
    let ratios: Vec<String> = ratios.collect();
    format!("{} ({})", row.show(median(figures.clone())), ratios.join(", "))
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
