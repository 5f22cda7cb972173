//! Connecting to one address, or to the first of several that accepts.
//!
//! Several addresses are tried concurrently as in RFC 8305 ("Happy Eyeballs"): the address families
//! alternate, each attempt starts some time after the previous one or as soon as that fails, and the first
//! to succeed cancels the others.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use polyloop_executor::{Sleep, poll_proceed, sleep};
use polyloop_reactor::socket::is_in_progress;
use socket2::{Domain, Protocol, Socket, Type};

use super::TcpStream;
use crate::connect::outcome;

/// The delay between the start of one attempt and the next.
///
/// RFC 8305, section 5, recommends 250 ms: most connections are established in less, and a user does not
/// notice it.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)> + Send>>;

/// Connects to the first of `addrs` that accepts.
pub(super) async fn connect_any(addrs: Vec<SocketAddr>) -> io::Result<TcpStream> {
    match addrs[..] {
        [] => Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")),
        [addr] => connect_to(addr).await,
        _ => race(addrs, ATTEMPT_DELAY).await,
    }
}

async fn race(addrs: Vec<SocketAddr>, delay: Duration) -> io::Result<TcpStream> {
    let mut waiting = alternate(addrs).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failures = Failures(Vec::new());
    // `None` until the first attempt starts.
    let mut next_start: Option<Sleep> = None;
    poll_fn(|cx| {
        loop {
            let mut failed = false;
            let mut i = 0;
            while i < attempts.len() {
                match attempts[i].as_mut().poll(cx) {
                    Poll::Pending => i += 1,
                    Poll::Ready((_, Ok(stream))) => return Poll::Ready(Ok(stream)),
                    Poll::Ready((addr, Err(error))) => {
                        drop(attempts.remove(i));
                        failures.0.push((addr, error));
                        failed = true;
                    }
                }
            }
            let is_due = match &mut next_start {
                None => true,
                Some(sleep) => Pin::new(sleep).poll(cx).is_ready(),
            };
            if !failed && !is_due {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(addr) => {
                    attempts.push(Box::pin(async move { (addr, connect_to(addr).await) }));
                    next_start = Some(sleep(delay));
                }
                None if attempts.is_empty() => {
                    let failures = std::mem::replace(&mut failures, Failures(Vec::new()));
                    return Poll::Ready(Err(failures.into()));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// Reorders addresses so that the address families alternate, starting with that of the first.
fn alternate(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let n_addrs = addrs.len();
    let first_is_v6 = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(n_addrs);
    loop {
        let (one, other) = (first.next(), second.next());
        if one.is_none() && other.is_none() {
            return mixed;
        }
        mixed.extend(one);
        mixed.extend(other);
    }
}

/// The error for each address that was tried.
#[derive(Debug)]
struct Failures(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (addr, error)) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}connecting to {addr}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {}

impl From<Failures> for io::Error {
    fn from(failures: Failures) -> io::Error {
        // The last error is that of the address family with more addresses, or of the slowest attempt.
        let kind = failures.0.last().map_or(io::ErrorKind::Other, |(_, error)| error.kind());
        io::Error::new(kind, failures)
    }
}

async fn connect_to(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    connect(socket, addr, false).await
}

/// Connects a non-blocking socket.
pub(super) async fn connect(
    socket: Socket,
    addr: SocketAddr,
    is_bound: bool,
) -> io::Result<TcpStream> {
    // Takes from the budget, since a loop around attempts that fail at once would never yield.
    poll_fn(poll_proceed).await;
    let connecting = socket.connect(&addr.into());
    let stream = TcpStream::from_nonblocking(socket.into());
    match connecting {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => outcome(stream.fd()).await?,
        Err(error) => return Err(error),
    }
    // A socket that was bound explicitly may be connected to itself on purpose.
    if !is_bound && is_own_peer(&stream, addr) {
        // A reset, since closing normally would block the port for a server for a minute.
        stream.set_linger(Some(Duration::ZERO))?;
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "no process listens on the port: the socket was connected to itself",
        ));
    }
    Ok(stream)
}

/// Returns whether both ends of a connection to `addr` are the same socket.
///
/// The system may choose the port that a client on the same host connects to as the client's own. If no
/// process listens there, TCP connects the socket to itself. `addr` does not show whether it is an address
/// of this host: unspecified and mapped addresses and those of network interfaces can be. So the function
/// compares the two ends.
fn is_own_peer(stream: &TcpStream, addr: SocketAddr) -> bool {
    let Ok(own) = stream.local_addr() else { return false };
    // The second system call is made only if the ports match. It fails if TCP fast open delays the
    // handshake; the peer then is `addr`.
    own.port() == addr.port() && is_same(own, stream.peer_addr().unwrap_or(addr))
}

/// Compares two addresses, except for IPv6 flow labels.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let zone = |addr| match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(addr) => addr.scope_id(),
    };
    (one.ip(), one.port(), zone(one)) == (other.ip(), other.port(), zone(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn address_families_alternate_and_keep_their_order() {
        let mixed = alternate(addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]));
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
        assert_eq!(mixed, addrs(&expected));
        assert_eq!(alternate(addrs(&["1.0.0.1:1", "[::1]:1"])), addrs(&["1.0.0.1:1", "[::1]:1"]));
        assert_eq!(alternate(Vec::new()), []);
    }

    #[test]
    fn a_client_connected_to_itself_is_refused_unless_it_was_bound() {
        polyloop_executor::run(async {
            for is_bound in [false, true] {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
                socket.set_nonblocking(true).unwrap();
                // As if the system had chosen this port.
                let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
                socket.bind(&any.into()).unwrap();
                let own = socket.local_addr().unwrap().as_socket().unwrap();
                let result = connect(socket, own, is_bound).await;
                if is_bound {
                    assert_eq!(result.unwrap().peer_addr().unwrap(), own);
                } else {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                    assert!(error.to_string().contains("itself"), "{error}");
                }
            }
        })
        .unwrap();
    }

    /// Binds a socket to `bound` and connects it to its own port at `ip`, as if the system had chosen
    /// that port. Returns `None` if this host has no such address.
    async fn connect_to_itself(bound: &str, ip: &str) -> Option<(u16, io::Result<TcpStream>)> {
        let mut addr: SocketAddr = bound.parse().unwrap();
        let domain = Domain::for_address(addr);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).ok()?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false).ok()?;
        }
        socket.set_nonblocking(true).unwrap();
        socket.bind(&addr.into()).ok()?;
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        addr.set_ip(ip.parse().unwrap());
        addr.set_port(port);
        Some((port, connect(socket, addr, false).await))
    }

    #[test]
    fn a_client_connected_to_itself_is_refused_at_any_address_and_frees_the_port() {
        polyloop_executor::run(async {
            let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            // Sends nothing. Finds the address of this host on the way to another network.
            let own = own.connect("192.0.2.1:9").and_then(|()| own.local_addr());
            let own = own.map_or("127.0.0.1".to_owned(), |own| own.ip().to_string());
            // Elsewhere the loopback device has one address by default.
            let is_linux = cfg!(any(target_os = "linux", target_os = "android"));
            let other = if is_linux { "127.0.0.2" } else { "127.0.0.1" };
            let mapped = format!("::ffff:{own}");
            for (bound, ip) in [
                ("127.0.0.1:0", "127.0.0.1"),
                ("0.0.0.0:0", "0.0.0.0"),
                ("0.0.0.0:0", "127.0.0.1"),
                ("0.0.0.0:0", other),
                ("0.0.0.0:0", &*own),
                ("[::1]:0", "::1"),
                ("[::]:0", "::"),
                ("[::]:0", "::1"),
                ("[::]:0", "::ffff:127.0.0.1"),
                ("[::]:0", "::ffff:0.0.0.0"),
                ("[::]:0", &*mapped),
            ] {
                let Some((port, result)) = connect_to_itself(bound, ip).await else {
                    println!("skipped: this host has no {bound}");
                    continue;
                };
                let error = result.expect_err(ip);
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{ip}: {error}");
                // A server can bind the port now, even without SO_REUSEADDR.
                let addr = SocketAddr::new(bound.parse::<SocketAddr>().unwrap().ip(), port);
                let server =
                    Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP));
                server.unwrap().bind(&addr.into()).unwrap_or_else(|e| panic!("{ip}: {e}"));
            }
        })
        .unwrap();
    }

    #[test]
    fn the_error_names_every_address() {
        let failures = addrs(&["[::1]:7", "127.0.0.1:7"]).into_iter();
        let failures = failures.map(|addr| (addr, io::ErrorKind::ConnectionRefused.into()));
        let error = io::Error::from(Failures(failures.collect()));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            "connecting to [::1]:7: connection refused; connecting to 127.0.0.1:7: connection refused"
        );
    }
}
