//! The server's cost of an echo: polyloop, a bare loop and the peers.
//!
//! Each server follows the echo in its project's documentation, and is the only program on the first core; the
//! load generator runs on the second. All get the same listener, read into buffers of the same size and
//! disable Nagle's algorithm. A server with tasks has a buffer per connection. With "one buffer", tokio and
//! polyloop wait until a connection is readable and read into a buffer that all connections share, as the
//! hand-written loops (bare, mio) do.

#[path = "../../../echo/bare.rs"]
mod bare;
#[path = "../../../echo/load.rs"]
mod load;
#[path = "../../../echo/ours.rs"]
mod ours;
#[path = "../../../echo/report.rs"]
mod report;
#[path = "../../../echo/server.rs"]
mod server;

#[cfg(target_os = "linux")]
mod compio;
#[cfg(target_os = "linux")]
mod glommio;
mod mio;
#[cfg(target_os = "linux")]
mod monoio;
mod polyloop;
mod smol;
mod tokio;

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use ::polyloop::{Backend, Runtime};

use bare::BUFFER_BYTES;
use report::{Candidates, Options, ROWS, Row};
use server::Server;

/// The table's name.
pub(crate) const TABLE: &str = "echo";

type Serve = fn(TcpListener) -> io::Result<()>;

/// The servers; those that ratios refer to come first.
const SERVERS: &[(&str, Serve)] = &[
    ("tokio current_thread", tokio::serve),
    ("bare epoll, edges", |listener| bare::serve(listener, true)),
    ("polyloop", |listener| Runtime::new()?.block_on(polyloop::accept(listener))?),
    (SPINNING, |listener| {
        let runtime = Runtime::builder().backend(Backend::Epoll).spin(SPIN).build()?;
        runtime.block_on(polyloop::accept(listener))?
    }),
    ("tokio, one buffer", tokio::serve_with_one_buffer),
    ("polyloop, one buffer", |listener| Runtime::new()?.block_on(ours::accept(listener))?),
    ("smol LocalExecutor", smol::serve),
    ("mio", mio::serve),
    #[cfg(target_os = "linux")]
    ("monoio", monoio::serve),
    #[cfg(target_os = "linux")]
    ("compio", compio::serve),
    #[cfg(target_os = "linux")]
    ("glommio", glommio::serve),
];

const N_YARDSTICKS: usize = 2;

const SPINNING: &str = "polyloop, spin";

/// How long the spinning server polls before it sleeps: longer than a client takes to answer.
const SPIN: Duration = Duration::from_micros(100);

/// How long each server is measured in each round.
const MEASURED: Duration = Duration::from_millis(400);

/// Measures and prints the rows whose title contains `row`.
pub(crate) fn print_table(
    n_rounds: usize,
    row: &str,
    is_wanted: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    let names = SERVERS.iter().map(|(name, _)| *name).enumerate();
    let names = names.filter(|(index, name)| *index < N_YARDSTICKS || is_wanted(name));
    let names: Vec<&str> = names.map(|(_, name)| name).collect();
    let candidates = Candidates { names: &names, n_yardsticks: N_YARDSTICKS, start, has_row };
    let options = Options { rounds: n_rounds, duration: MEASURED };
    let rows: Vec<_> = ROWS.iter().filter(|(title, _)| title.contains(row)).copied().collect();
    report::compare(&options, &candidates, &rows)
}

fn start(name: &str) -> io::Result<Server> {
    Server::start(&["--serve", name])
}

/// Spinning only helps when there is little to do.
fn has_row(name: &str, row: Row) -> bool {
    name != SPINNING || row == Row::Answers
}

/// Runs a server until it is killed. Its first line is its address.
pub(crate) fn serve(name: &str) -> io::Result<()> {
    let server = SERVERS.iter().find(|(known, _)| *known == name);
    let (_, serve) =
        server.ok_or_else(|| io::Error::other(format!("there is no server {name:?}")))?;
    let listener = server::listener()?;
    println!("{}", listener.local_addr()?);
    serve(listener)
}
