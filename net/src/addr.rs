//! Addresses to connect to, and names that must be looked up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

use polyloop_reactor::socket::device_index;

/// Converts to one or more socket addresses: an address, a list of addresses, `"host:port"` or `("host", port)`.
///
/// In text, an IPv6 address is in brackets and may have a zone, the number or name of a network interface:
/// `"[fe80::1%eth0]:80"`. Such an address needs no lookup.
///
/// This trait is sealed and cannot be implemented outside of this crate.
///
/// # References
/// [`std::net::ToSocketAddrs`], which looks names up on the calling thread.
pub trait ToAddrs: sealed::Sealed {}

impl<T: sealed::Sealed> ToAddrs for T {}

mod sealed {
    use super::Target;

    /// The implementation of `ToAddrs`.
    pub trait Sealed {
        /// Returns the addresses, or the name to look up.
        fn target(&self) -> Target;
    }
}

/// The result of parsing an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Addresses, which need no lookup.
    Addrs(Vec<SocketAddr>),
    /// A host name to look up, and a port.
    Name(String, u16),
    /// A text that does not have the form `host:port`.
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
        let (host, port) = *self;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Target::Addrs(vec![(ip, port).into()]);
        }
        match in_zone(host, port) {
            Some(addr) => Target::Addrs(vec![addr.into()]),
            None => Target::Name(host.to_owned(), port),
        }
    }
}

impl sealed::Sealed for str {
    fn target(&self) -> Target {
        if let Ok(addr) = self.parse() {
            return Target::Addrs(vec![addr]);
        }
        let malformed = || Target::Malformed(self.to_owned());
        let Some((host, port)) = self.rsplit_once(':') else { return malformed() };
        let Ok(port) = port.parse() else { return malformed() };
        if !host.contains(['[', ']']) && !host.is_empty() {
            return Target::Name(host.to_owned(), port);
        }
        // Text in brackets that the standard library does not parse must be an address with a zone.
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) if zoned(host).is_some() => (host, port).target(),
            _ => malformed(),
        }
    }
}

/// Splits an IPv6 address from its zone. `None` if it has no zone or is not an address.
fn zoned(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (ip, zone) = host.split_once('%')?;
    let ip = ip.parse().ok()?;
    (!zone.is_empty()).then_some((ip, zone))
}

/// Parses an IPv6 address with a zone. `None` also if there is no such interface.
fn in_zone(host: &str, port: u16) -> Option<SocketAddrV6> {
    let (ip, zone) = zoned(host)?;
    let index = zone.parse().or_else(|_| device_index(zone)).ok()?;
    Some(SocketAddrV6::new(ip, port, 0, index))
}

/// Resolves addresses, blocking the calling thread if a name must be looked up.
pub(crate) fn find_now(addr: impl ToAddrs) -> io::Result<Vec<SocketAddr>> {
    match addr.target() {
        Target::Addrs(addrs) => Ok(addrs),
        Target::Malformed(text) => Err(malformed(&text)),
        Target::Name(host, port) => match (host.as_str(), port).to_socket_addrs() {
            Ok(addrs) => Ok(addrs.collect()),
            Err(error) => {
                Err(io::Error::new(error.kind(), format!("looking up {host:?}: {error}")))
            }
        },
    }
}

pub(crate) fn malformed(text: &str) -> io::Error {
    let message = format!("{text:?} does not have the form host:port");
    io::Error::new(io::ErrorKind::InvalidInput, message)
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
    fn brackets_end_where_the_address_ends() {
        let addr: SocketAddr = "[fe80::1%7]:80".parse().unwrap();
        assert_eq!("[fe80::1%7]:80".target(), Target::Addrs(vec![addr]));
        assert_eq!(("fe80::1%7", 80).target(), Target::Addrs(vec![addr]));
        let device =
            if cfg!(any(target_os = "linux", target_os = "android")) { "lo" } else { "lo0" };
        let (ip, index) = ("fe80::1".parse().unwrap(), device_index(device).unwrap());
        let addrs = || Target::Addrs(vec![SocketAddrV6::new(ip, 80, 0, index).into()]);
        assert_eq!(format!("[fe80::1%{device}]:80").target(), addrs());
        assert_eq!((format!("fe80::1%{device}"), 80).target(), addrs());
        // No such interface: the lookup returns the error.
        let named = |host: &str| Target::Name(host.into(), 80);
        for host in ["fe80::1%not here", "fe80::1%a.b:c", "fe80::1%not]here"] {
            assert_eq!((host, 80).target(), named(host));
            assert_eq!(format!("[{host}]:80").target(), named(host));
        }
        for text in [
            "[localhost]:80",
            "[]:80",
            "[::1:80",
            "::1]:80",
            "[::1]",
            "[::1]:",
            "[fe80::1%]:80",
            "[127.0.0.1]:80",
            "[127.0.0.1%lo]:80",
            "[x%lo]:80",
            "[::1%lo]x:80",
        ] {
            assert_eq!(text.target(), Target::Malformed(text.into()), "{text:?}");
        }
    }

    #[test]
    fn malformed_text_is_returned() {
        for text in ["", "localhost", "localhost:", "localhost:http", "localhost:65536", ":80"] {
            assert_eq!(text.target(), Target::Malformed(text.into()), "{text:?}");
        }
    }
}
