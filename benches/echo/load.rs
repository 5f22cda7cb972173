//! The load: many connections, driven by one raw selector.
//!
//! It has its own processor and does not sleep, because waking it would be work of the server, and the amount
//! would depend on the server's speed. Only a single client sleeps until it is answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use polyloop::selectors::{Events, Interest, Mode, Selector, Token, default_selector};

/// The behaviour of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) n_connections: usize,
    pub(crate) n_bytes: usize,
    /// Messages that a connection sends before it waits for the first echo.
    pub(crate) n_in_flight: usize,
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Client {
    stream: TcpStream,
    /// Bytes of the present batch that have come back.
    n_back: usize,
}

/// The established connections.
pub(crate) struct Clients {
    clients: Vec<Client>,
    selector: Box<dyn Selector>,
    load: Load,
}

impl Clients {
    /// Connects all clients.
    pub(crate) fn connect(addr: SocketAddr, load: Load) -> io::Result<Clients> {
        let mut selector = default_selector()?;
        let mut clients = Vec::new();
        for index in 0..load.n_connections {
            let stream = TcpStream::connect(addr)?;
            set_reno(&socket2::SockRef::from(&stream));
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let token = Token::from_raw(index as u64);
            selector.register(stream.as_fd(), token, Interest::READABLE, Mode::Level)?;
            clients.push(Client { stream, n_back: 0 });
        }
        Ok(Clients { clients, selector, load })
    }

    /// Exchanges messages for `duration`, and completes every batch. Returns the number of messages.
    pub(crate) fn talk(&mut self, duration: Duration) -> io::Result<u64> {
        let batch = vec![7; self.load.n_bytes * self.load.n_in_flight];
        let mut buffer = vec![0; 64 * 1024];
        let mut events = Events::with_capacity(1_024);
        let deadline = Instant::now() + duration;
        let mut n_batches = 0;
        let mut n_talking = self.clients.len();
        let wait = if n_talking == 1 { PATIENCE } else { Duration::ZERO };
        for client in &mut self.clients {
            send(&mut client.stream, &batch)?;
        }
        while n_talking > 0 {
            let start = Instant::now();
            loop {
                self.selector.select(&mut events, Some(wait))?;
                if !events.is_empty() || start.elapsed() > PATIENCE {
                    break;
                }
            }
            if events.is_empty() {
                let error = format!("the server stopped answering {n_talking} connections");
                return Err(io::Error::new(io::ErrorKind::TimedOut, error));
            }
            let is_over = Instant::now() >= deadline;
            for event in &events {
                let client = &mut self.clients[event.token.raw() as usize];
                match client.stream.read(&mut buffer) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => client.n_back += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                if client.n_back < batch.len() {
                    continue;
                }
                client.n_back = 0;
                n_batches += 1;
                if is_over {
                    n_talking -= 1;
                } else {
                    send(&mut client.stream, &batch)?;
                }
            }
        }
        Ok(n_batches * self.load.n_in_flight as u64)
    }
}

/// Writes a batch message by message; the kernel's buffers hold a whole batch.
fn send(stream: &mut TcpStream, batch: &[u8]) -> io::Result<()> {
    let mut rest = batch;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens connections for one message each, for `duration`; returns their number.
///
/// They arrive in bursts, so that the server has work while this side is busy.
pub(crate) fn come_and_go(addr: SocketAddr, duration: Duration) -> io::Result<u64> {
    const CROWD: usize = 32;
    let message = [7; 64];
    let mut buffer = [0; 64];
    let mut crowd = Vec::with_capacity(CROWD);
    let deadline = Instant::now() + duration;
    let mut n_connections = 0;
    while Instant::now() < deadline {
        for _ in 0..CROWD {
            let mut stream = TcpStream::connect(addr)?;
            stream.write_all(&message)?;
            crowd.push(stream);
        }
        for mut stream in crowd.drain(..) {
            stream.read_exact(&mut buffer)?;
        }
        n_connections += CROWD as u64;
    }
    Ok(n_connections)
}

/// Sets a congestion control that does not distort the loopback.
pub(crate) fn set_reno(socket: &socket2::Socket) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_congestion(b"reno") {
        eprintln!("echo: measuring with the system's congestion control: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}
