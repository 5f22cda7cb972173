//! What can be connected to: addresses, and names that have to be looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Names one or more socket addresses: an address or several, or `"host:port"`, or
/// `("host", port)`.
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
    /// Here, or there.
    Addrs(Vec<SocketAddr>),
    /// Ask for the host's addresses.
    Name(String, u16),
    /// Nowhere: the text is not of the form `host:port`.
    Malformed(String),
}

impl sealed::Sealed for SocketAddr {
    fn target(&self) -> Target {
        Target::Addrs(vec![*self])
    }
}

impl sealed::Sealed for SocketAddrV4 {
    fn target(&self) -> Target {
        Target::Addrs(vec![(*self).into()])
    }
}

impl sealed::Sealed for SocketAddrV6 {
    fn target(&self) -> Target {
        Target::Addrs(vec![(*self).into()])
    }
}

impl sealed::Sealed for (IpAddr, u16) {
    fn target(&self) -> Target {
        Target::Addrs(vec![(*self).into()])
    }
}

impl sealed::Sealed for (Ipv4Addr, u16) {
    fn target(&self) -> Target {
        Target::Addrs(vec![(*self).into()])
    }
}

impl sealed::Sealed for (Ipv6Addr, u16) {
    fn target(&self) -> Target {
        Target::Addrs(vec![(*self).into()])
    }
}

impl sealed::Sealed for (&str, u16) {
    fn target(&self) -> Target {
        match self.0.parse::<IpAddr>() {
            Ok(ip) => Target::Addrs(vec![(ip, self.1).into()]),
            Err(_) => Target::Name(self.0.to_owned(), self.1),
        }
    }
}

impl sealed::Sealed for str {
    fn target(&self) -> Target {
        if let Ok(addr) = self.parse() {
            return Target::Addrs(vec![addr]);
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

impl sealed::Sealed for (String, u16) {
    fn target(&self) -> Target {
        (self.0.as_str(), self.1).target()
    }
}

impl sealed::Sealed for [SocketAddr] {
    fn target(&self) -> Target {
        Target::Addrs(self.to_vec())
    }
}

impl<const N: usize> sealed::Sealed for [SocketAddr; N] {
    fn target(&self) -> Target {
        Target::Addrs(self.to_vec())
    }
}

impl sealed::Sealed for Vec<SocketAddr> {
    fn target(&self) -> Target {
        Target::Addrs(self.clone())
    }
}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    fn target(&self) -> Target {
        (**self).target()
    }
}

#[cfg(test)]
mod tests {
    use super::sealed::Sealed;
    use super::*;

    #[test]
    fn addresses_need_no_lookup() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!("127.0.0.1:80".target(), Target::Addrs(vec![addr]));
        assert_eq!(("127.0.0.1", 80).target(), Target::Addrs(vec![addr]));
        assert_eq!((Ipv4Addr::LOCALHOST, 80).target(), Target::Addrs(vec![addr]));
        assert_eq!("[::1]:80".target(), Target::Addrs(vec![(Ipv6Addr::LOCALHOST, 80).into()]));
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
