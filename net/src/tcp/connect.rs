//! Connecting: to one address, and to the first of several that answers.
//!
//! Several addresses are raced as RFC 8305 ("Happy Eyeballs") has it: kinds of address take
//! turns, each attempt has a head start before the next begins, one that fails makes room for the
//! next at once, and the first to succeed ends the others.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use polyloop_executor::{Sleep, poll_proceed, sleep};
use polyloop_reactor::{Direction, connect_goes_on};
use socket2::{Domain, Protocol, Socket, Type};

use super::TcpStream;

/// The head start of an attempt before the next one begins.
///
/// RFC 8305, section 5, recommends 250 ms: longer than most connections take, shorter than a
/// person's patience.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Attempt = Pin<Box<dyn Future<Output = (SocketAddr, io::Result<TcpStream>)> + Send>>;

/// Connects to the first of `addrs` that answers.
pub(super) async fn connect_any(addrs: Vec<SocketAddr>) -> io::Result<TcpStream> {
    match addrs[..] {
        [] => Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to")),
        [addr] => connect_to(addr).await,
        _ => race(addrs, ATTEMPT_DELAY).await,
    }
}

async fn race(addrs: Vec<SocketAddr>, delay: Duration) -> io::Result<TcpStream> {
    let mut waiting = take_turns(addrs).into_iter();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut failures = Failures(Vec::new());
    // Over from the start: the first attempt begins at once.
    let mut head_start: Option<Sleep> = None;
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
            let over = match &mut head_start {
                None => true,
                Some(sleep) => Pin::new(sleep).poll(cx).is_ready(),
            };
            if !failed && !over {
                return Poll::Pending;
            }
            match waiting.next() {
                Some(addr) => {
                    attempts.push(Box::pin(async move { (addr, connect_to(addr).await) }));
                    head_start = Some(sleep(delay));
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

/// Lets the two kinds of address take turns, beginning with the kind of the first.
fn take_turns(addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
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

/// Says of each address why it could not be reached.
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
        // The last one is of the kind that there is more of, or took longest to find out.
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
    // It may fail at once, and a loop that tries again would never yield.
    poll_fn(poll_proceed).await;
    let connecting = socket.connect(&addr.into());
    let stream = TcpStream::from_nonblocking(socket.into());
    match connecting {
        Ok(()) => {}
        Err(error) if connect_goes_on(&error) => {
            stream.fd().async_io(Direction::Write, decided).await?;
        }
        Err(error) => return Err(error),
    }
    // A client on this host may be given the very port that it wants to connect to; TCP then
    // connects the socket to itself. Nobody listens there. A bound socket may have meant it.
    if !is_bound && addr.ip().is_loopback() && stream.local_addr().is_ok_and(|own| own == addr) {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "nobody listens there: the socket was connected to itself",
        ));
    }
    Ok(stream)
}

/// Reads how the connecting ended. Writable means that it is decided, and the socket's error says
/// how. A socket without error and without peer is still connecting.
fn decided(stream: &net::TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Err(error) if error.kind() == io::ErrorKind::NotConnected => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        result => result.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn kinds_of_address_take_turns_and_keep_their_order() {
        let mixed = take_turns(addrs(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]));
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
        assert_eq!(mixed, addrs(&expected));
        assert_eq!(take_turns(addrs(&["1.0.0.1:1", "[::1]:1"])), addrs(&["1.0.0.1:1", "[::1]:1"]));
        assert_eq!(take_turns(Vec::new()), []);
    }

    #[test]
    fn a_client_that_met_itself_is_refused_unless_it_meant_to() {
        polyloop_executor::run(async {
            for is_bound in [false, true] {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
                socket.set_nonblocking(true).unwrap();
                // As if the system had chosen this port for it.
                let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
                socket.bind(&any.into()).unwrap();
                let own = socket.local_addr().unwrap().as_socket().unwrap();
                let met = connect(socket, own, is_bound).await;
                if is_bound {
                    assert_eq!(met.unwrap().peer_addr().unwrap(), own);
                } else {
                    let error = met.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                    assert!(error.to_string().contains("itself"), "{error}");
                }
            }
        })
        .unwrap();
    }

    #[test]
    fn every_address_that_failed_is_named() {
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
