//! One client: its rate of round trips, and the processor time of the server.

use std::io;
use std::time::Instant;

use crate::load::{Clients, Load};
use crate::report::{Options, median};
use crate::served;

/// The servers to compare.
const SERVERS: [&str; 3] = ["bare edge", "polyloop epoll", "polyloop spin"];

/// Measures the round trips of one client, and the processor time of the server.
pub(crate) fn compare(options: &Options) -> io::Result<()> {
    println!("\none client, median of {} rounds\n", options.rounds);
    println!("| server | round trips per second | CPU share | CPU share when idle |");
    println!("|---|---:|---:|---:|");
    for name in SERVERS {
        let [rate, share, idle] = measure(name, options)?;
        println!("| {name} | {rate:.0} | {share:.2} | {idle:.4} |");
    }
    Ok(())
}

/// Returns the rate, and the server's share of a processor with and without the client.
fn measure(name: &str, options: &Options) -> io::Result<[f64; 3]> {
    let server = served::start(name)?;
    let load = Load { n_connections: 1, n_bytes: 64, n_in_flight: 1 };
    let mut clients = Clients::connect(server.addr, load)?;
    let (mut rates, mut shares, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (before, start) = (server.cpu_ns()?, Instant::now());
        let n_messages = clients.talk(options.duration)?;
        let seconds = start.elapsed().as_secs_f64();
        rates.push(n_messages as f64 / seconds);
        shares.push((server.cpu_ns()? - before) as f64 / 1e9 / seconds);
        let before = server.cpu_ns()?;
        std::thread::sleep(options.duration);
        idle.push((server.cpu_ns()? - before) as f64 / options.duration.as_nanos() as f64);
    }
    Ok([rates, shares, idle].map(median))
}
