//! A server in a separate process, with its processor time and memory.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use super::load::set_reno;

/// A server in a separate process, on the first core.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts this program again with `arguments`, and reads the address from its first line.
    pub(crate) fn start(arguments: &[&str]) -> io::Result<Server> {
        let program = std::env::current_exe()?;
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout is piped")).read_line(&mut line)?;
        let addr = line.trim().parse().map_err(io::Error::other)?;
        Ok(Server { child, addr })
    }

    /// Returns the processor time of all threads so far, as the kernel accounts it.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let running = stat.split(' ').next().unwrap_or_default();
            total += running.parse::<u64>().map_err(io::Error::other)?;
        }
        Ok(total)
    }

    /// Returns the resident memory of the process in bytes.
    pub(crate) fn resident(&self) -> io::Result<u64> {
        const PAGE_BYTES: u64 = 4_096;
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id()))?;
        let n_pages = statm.split(' ').nth(1).unwrap_or_default();
        Ok(n_pages.parse::<u64>().map_err(io::Error::other)? * PAGE_BYTES)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have exited already, which was reported.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the listener for a candidate.
pub(crate) fn listener() -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Accepted connections inherit it.
    set_reno(&socket);
    let addr: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&addr.into())?;
    socket.listen(4_096)?;
    Ok(socket.into())
}

/// Pins the load generator to the second core.
pub(crate) fn pin_to_second_core() -> io::Result<()> {
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-cp", "1", &pid]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("cannot pin to the second core")) }
}
