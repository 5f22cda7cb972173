//! One client at a time: how fast it is answered, and what waiting for it takes.

use std::io;
use std::time::Instant;

use crate::load::{Clients, Load};
use crate::report::{Options, median};
use crate::served;

/// The servers that are compared: how fast is waking up?
const SERVERS: [&str; 3] = ["bare edge", "polyloop epoll", "polyloop spin"];

/// Measures how fast one client is answered, and what the server takes for it.
pub(crate) fn compare(options: &Options) -> io::Result<()> {
    println!("\none client, median of {} rounds\n", options.rounds);
    println!("| server | round trips a second | of a processor | idle: of a processor |");
    println!("|---|---:|---:|---:|");
    for name in SERVERS {
        let [rate, share, idle] = measure(name, options)?;
        println!("| {name} | {rate:.0} | {share:.2} | {idle:.4} |");
    }
    Ok(())
}

/// Returns the rate, and what the server takes of a processor with the client and without.
fn measure(name: &str, options: &Options) -> io::Result<[f64; 3]> {
    let server = served::start(name)?;
    let load = Load { n_connections: 1, n_bytes: 64, n_in_flight: 1 };
    let mut clients = Clients::connect(server.addr, load)?;
    let (mut rates, mut shares, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (before, begin) = (server.cpu_ns()?, Instant::now());
        let n_messages = clients.talk(options.duration)?;
        let seconds = begin.elapsed().as_secs_f64();
        rates.push(n_messages as f64 / seconds);
        shares.push((server.cpu_ns()? - before) as f64 / 1e9 / seconds);
        let before = server.cpu_ns()?;
        std::thread::sleep(options.duration);
        idle.push((server.cpu_ns()? - before) as f64 / options.duration.as_nanos() as f64);
    }
    Ok([rates, shares, idle].map(median))
}
