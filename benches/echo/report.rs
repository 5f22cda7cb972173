//! Rounds, medians and the table.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::{Clients, Load};
use crate::served::{ANSWERERS, SERVERS};

const LOADS: &[(&str, Load)] = &[
    ("1 × 64 B", Load { n_connections: 1, n_bytes: 64, n_in_flight: 1 }),
    ("50 × 64 B", Load { n_connections: 50, n_bytes: 64, n_in_flight: 1 }),
    ("1,000 × 64 B", Load { n_connections: 1_000, n_bytes: 64, n_in_flight: 1 }),
    ("50 × 16 KiB", Load { n_connections: 50, n_bytes: 16 * 1024, n_in_flight: 1 }),
    ("50 × 64 B, 16 in flight", Load { n_connections: 50, n_bytes: 64, n_in_flight: 16 }),
];

/// How long to measure.
pub(crate) struct Options {
    rounds: usize,
    duration: Duration,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> io::Result<Options> {
        let mut options = Options { rounds: 5, duration: Duration::from_secs(1) };
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--rounds" => {
                    options.rounds = value.parse().map_err(io::Error::other)?;
                }
                [name, value] if name == "--seconds" => {
                    let seconds = value.parse().map_err(io::Error::other)?;
                    options.duration = Duration::from_secs_f64(seconds);
                }
                other => return Err(io::Error::other(format!("unknown arguments: {other:?}"))),
            }
        }
        Ok(options)
    }
}

/// A server in a process of its own, on the first core.
struct Server {
    child: Child,
    clients: Clients,
}

impl Server {
    fn start(name: &str, load: Load) -> io::Result<Server> {
        let program = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program).args(["serve", name]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let addr: SocketAddr = line.trim().parse().map_err(io::Error::other)?;
        Ok(Server { child, clients: Clients::connect(addr, load)? })
    }

    /// Returns the processor time of all threads so far, from the kernel's accounting.
    fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let running = stat.split(' ').next().unwrap_or_default();
            total += running.parse::<u64>().map_err(io::Error::other)?;
        }
        Ok(total)
    }

    /// Returns round trips a second, and the share of a processor that they took.
    fn measure_answers(&mut self, duration: Duration) -> io::Result<(f64, f64)> {
        let (before, begin) = (self.cpu_ns()?, Instant::now());
        let n_messages = self.clients.talk(duration)?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu = (self.cpu_ns()? - before) as f64 / 1e9;
        Ok((n_messages as f64 / seconds, cpu / seconds))
    }

    /// Returns the share of a processor that the server takes while nobody says anything.
    fn measure_idle(&self, duration: Duration) -> io::Result<f64> {
        let before = self.cpu_ns()?;
        std::thread::sleep(duration);
        Ok((self.cpu_ns()? - before) as f64 / duration.as_nanos() as f64)
    }

    /// Returns the server's processor time for one message, in nanoseconds.
    fn measure(&mut self, duration: Duration) -> io::Result<f64> {
        let before = self.cpu_ns()?;
        let n_messages = self.clients.talk(duration)?;
        Ok((self.cpu_ns()? - before) as f64 / n_messages as f64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which was reported.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures all servers under all loads, round by round, and prints the table.
pub(crate) fn compare(options: &Options) -> io::Result<()> {
    pin_to_second_core()?;
    println!("server CPU per message, median of {} rounds; (÷ {})\n", options.rounds, SERVERS[0]);
    println!("| load | {} |", SERVERS.join(" | "));
    println!("|---|{}", "---|".repeat(SERVERS.len()));
    for (name, load) in LOADS {
        let mut figures = vec![Vec::new(); SERVERS.len()];
        let mut ratios = vec![Vec::new(); SERVERS.len()];
        let mut servers = Vec::new();
        for name in SERVERS {
            let fits = *name != "polyloop select" || load.n_connections < 1_000;
            let mut server = if fits { Some(Server::start(name, *load)?) } else { None };
            if let Some(server) = &mut server {
                // Every connection is known to its server before the first round.
                server.measure(options.duration / 10)?;
            }
            servers.push(server);
        }
        for _ in 0..options.rounds {
            let mut yardstick = f64::NAN;
            for (index, server) in servers.iter_mut().enumerate() {
                let Some(server) = server else { continue };
                let figure = server.measure(options.duration)?;
                if index == 0 {
                    yardstick = figure;
                }
                figures[index].push(figure);
                ratios[index].push(figure / yardstick);
            }
        }
        let cells: Vec<String> = figures
            .iter_mut()
            .zip(&mut ratios)
            .map(|(figures, ratios)| match median(figures) {
                Some(figure) => {
                    let ratio = median(ratios).unwrap_or(f64::NAN);
                    format!("{:.2} µs ({ratio:.3})", figure / 1_000.0)
                }
                None => "–".to_owned(),
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    compare_answers(options)
}

/// Measures how fast one client is answered, and what the server takes for it.
fn compare_answers(options: &Options) -> io::Result<()> {
    let load = Load { n_connections: 1, n_bytes: 64, n_in_flight: 1 };
    println!("\none client, median of {} rounds\n", options.rounds);
    println!("| server | round trips a second | of a processor | idle: of a processor |");
    println!("|---|---|---|---|");
    let mut servers = Vec::new();
    for name in ANSWERERS {
        servers.push((name, Server::start(name, load)?, Vec::new(), Vec::new(), Vec::new()));
    }
    for _ in 0..options.rounds {
        for (_, server, rates, shares, idle) in &mut servers {
            let (rate, share) = server.measure_answers(options.duration)?;
            rates.push(rate);
            shares.push(share);
            idle.push(server.measure_idle(options.duration)?);
        }
    }
    for (name, _, rates, shares, idle) in &mut servers {
        let [rate, share, idle] = [rates, shares, idle].map(|f| median(f).unwrap_or(f64::NAN));
        println!("| {name} | {rate:.0} | {share:.2} | {idle:.4} |");
    }
    Ok(())
}

fn median(figures: &mut [f64]) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

/// Keeps the load off the server's core.
fn pin_to_second_core() -> io::Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-cp", "1", &pid]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cannot pin to the second core")) }
}
