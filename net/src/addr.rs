//! What can be connected to: addresses, and names that have to be looked up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use polyloop_executor::spawn_blocking;

/// Names one or more socket addresses: an address, or `"host:port"`, or `("host", port)`.
///
/// Sealed: it is implemented for the types below and for no others.
pub trait ToAddrs: sealed::Sealed {}

impl<T: sealed::Sealed> ToAddrs for T {}

mod sealed {
    use super::Target;

    /// Splits what needs no lookup from what does.
    pub trait Sealed {
        fn target(&self) -> Target;
    }
}

/// Says where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Here.
    Addr(SocketAddr),
    /// Ask for the host's addresses.
    Name(String, u16),
    /// Nowhere: the text is not of the form `host:port`.
    Malformed(String),
}

impl sealed::Sealed for SocketAddr {
    fn target(&self) -> Target {
        Target::Addr(*self)
    }
}

impl sealed::Sealed for SocketAddrV4 {
    fn target(&self) -> Target {
        Target::Addr((*self).into())
    }
}

impl sealed::Sealed for SocketAddrV6 {
    fn target(&self) -> Target {
        Target::Addr((*self).into())
    }
}

impl sealed::Sealed for (IpAddr, u16) {
    fn target(&self) -> Target {
        Target::Addr((*self).into())
    }
}

impl sealed::Sealed for (Ipv4Addr, u16) {
    fn target(&self) -> Target {
        Target::Addr((*self).into())
    }
}

impl sealed::Sealed for (Ipv6Addr, u16) {
    fn target(&self) -> Target {
        Target::Addr((*self).into())
    }
}

impl sealed::Sealed for (&str, u16) {
    fn target(&self) -> Target {
        match self.0.parse::<IpAddr>() {
            Ok(ip) => Target::Addr((ip, self.1).into()),
            Err(_) => Target::Name(self.0.to_owned(), self.1),
        }
    }
}

impl sealed::Sealed for str {
    fn target(&self) -> Target {
        if let Ok(addr) = self.parse() {
            return Target::Addr(addr);
        }
        match self.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if !host.is_empty() => Target::Name(host.to_owned(), port),
            _ => Target::Malformed(self.to_owned()),
        }
    }
}

impl sealed::Sealed for String {
    fn target(&self) -> Target {
        self.as_str().target()
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    fn target(&self) -> Target {
        (**self).target()
    }
}

/// Finds the addresses; names are looked up on the blocking pool.
pub(crate) async fn resolve(addr: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match addr.target() {
        Target::Addr(addr) => Ok(vec![addr]),
        Target::Malformed(text) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is not of the form host:port"),
        )),
        Target::Name(host, port) => {
            let name = host.clone();
            let lookup = spawn_blocking(move || (host.as_str(), port).to_socket_addrs());
            let found = lookup.await.map_err(io::Error::from).flatten();
            let addrs = found.map_err(|error| {
                io::Error::new(error.kind(), format!("looking up {name:?}: {error}"))
            })?;
            let addrs: Vec<_> = addrs.collect();
            if addrs.is_empty() {
                let message = format!("looking up {name:?}: no address");
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
            Ok(addrs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sealed::Sealed;
    use super::*;

    #[test]
    fn addresses_need_no_lookup() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!("127.0.0.1:80".target(), Target::Addr(addr));
        assert_eq!(("127.0.0.1", 80).target(), Target::Addr(addr));
        assert_eq!((Ipv4Addr::LOCALHOST, 80).target(), Target::Addr(addr));
        assert_eq!("[::1]:80".target(), Target::Addr((Ipv6Addr::LOCALHOST, 80).into()));
    }

    #[test]
    fn names_are_split_from_their_port() {
        assert_eq!("localhost:80".target(), Target::Name("localhost".into(), 80));
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["", "localhost", "localhost:", "localhost:http", "localhost:65536", ":80"] {
            assert_eq!(text.target(), Target::Malformed(text.into()), "{text:?}");
        }
    }
}
