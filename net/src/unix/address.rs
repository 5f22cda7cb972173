//! Addresses of Unix sockets: paths and abstract names.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::{SockAddr, Socket};

/// Converts a path, or on Linux an abstract name, into an address.
pub(super) fn address(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let invalid = |message| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    match bytes {
        [] => return invalid("the path of a socket must not be empty"),
        [0, ..] if cfg!(any(target_os = "linux", target_os = "android")) => {}
        [0, ..] => return invalid("abstract names are only supported on Linux"),
        _ if bytes.contains(&0) => return invalid("the path of a socket must not contain a NUL"),
        _ => {}
    }
    SockAddr::unix(path)
}

/// Converts an address into the standard library's type.
///
/// Returns `None` for a path that fills the whole address, so that no NUL ends it: the standard library
/// creates such an address only from a socket.
pub(super) fn to_std(addr: &SockAddr) -> io::Result<Option<SocketAddr>> {
    if let Some(path) = addr.as_pathname() {
        return Ok(SocketAddr::from_pathname(path).ok());
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = addr.as_abstract_namespace() {
        use std::os::linux::net::SocketAddrExt;

        return SocketAddr::from_abstract_name(name).map(Some);
    }
    // The address of an unnamed socket.
    SocketAddr::from_pathname("").map(Some)
}

/// Returns an accepted connection with the address of its peer, which `accept` reported.
pub(super) fn peer_of(socket: Socket, addr: SockAddr) -> io::Result<(Socket, SocketAddr)> {
    if let Some(addr) = to_std(&addr)? {
        return Ok((socket, addr));
    }
    let stream = net::UnixStream::from(socket);
    let addr = stream.peer_addr()?;
    Ok((stream.into(), addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_that_fits() {
        assert!(address(Path::new(&"x".repeat(100))).is_ok());
        for bad in ["", "a\0b", &"x".repeat(108), &"x".repeat(1_000)] {
            let error = address(Path::new(bad)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        let named = to_std(&address(Path::new("some/path")).unwrap()).unwrap().unwrap();
        assert_eq!(named.as_pathname(), Some(Path::new("some/path")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_may_have_any_bytes() {
        use std::os::linux::net::SocketAddrExt;

        let named = to_std(&address(Path::new("\0na\0me")).unwrap()).unwrap().unwrap();
        assert_eq!(named.as_abstract_name(), Some(&b"na\0me"[..]));
    }
}
