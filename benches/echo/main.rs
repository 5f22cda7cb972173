//! What an echo costs the server: polyloop on each backend against bare epoll loops.
//!
//! `cargo bench --bench echo` runs every server in a process of its own, pinned to one core, with
//! the load on another, in interleaved rounds, and prints the medians of the processor time that
//! the kernel accounts to the server for each message. Throughput drifts with the machine; that
//! time does not, much. Both sides use the congestion control *reno*: some machines' default, bbr,
//! cuts a loopback echo to a third after a second.
//!
//! `cargo bench --bench echo -- [--rounds N] [--seconds S]` changes how long it takes.

mod bare;
mod load;
mod report;
mod served;

use std::io;
use std::process::ExitCode;

use report::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let result = match arguments.first().map(String::as_str) {
        Some("serve") => served::serve(arguments.get(1).map_or("", String::as_str)),
        // What `cargo test --benches` passes.
        Some("--test") => Ok(()),
        _ => Options::parse(&arguments).and_then(|options| report::compare(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the listener that every candidate is given.
fn listener() -> io::Result<std::net::TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Accepted connections inherit it.
    load::set_reno(&socket);
    let addr: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&addr.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}
