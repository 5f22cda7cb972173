use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net;

use polyloop::net::{UnixDatagram, lookup_host};

/// Reads any text as an address, and takes a message from a socket with any abstract name.
///
/// # Panics
/// If an address is not returned as it was given, or if an invalid one is accepted.
pub fn addresses(data: &[u8]) {
    polyloop::run(async {
        if let Ok(text) = str::from_utf8(data) {
            read_text(text).await;
        }
        #[cfg(target_os = "linux")]
        receive_from(data).await;
    })
    .expect("a loop");
}

async fn read_text(text: &str) {
    if let Ok(addr) = text.parse::<SocketAddr>() {
        assert_eq!(lookup_host(text).await.expect("an address needs no lookup"), [addr]);
        return;
    }
    // Possible names are not looked up, because that would test the network.
    let is_name = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !is_name {
        let error = lookup_host(text).await.expect_err("an invalid address is an error");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{text:?}");
    }
}

/// Sends a message from a socket whose abstract name is `name`.
#[cfg(target_os = "linux")]
async fn receive_from(name: &[u8]) {
    let Ok(addr) = net::SocketAddr::from_abstract_name(name) else { return };
    let (Ok(sender), Ok(receiver)) = (net::UnixDatagram::bind_addr(&addr), autobound()) else {
        return;
    };
    let receiver_addr = receiver.local_addr().expect("an autobound name");
    let receiver = UnixDatagram::from_std(receiver).expect("a socket");
    sender.send_to_addr(b"hello", &receiver_addr).expect("the buffer is not full");
    let mut buf = [0; 8];
    let (n_bytes, from) = receiver.recv_from(&mut buf).await.expect("a message");
    assert_eq!(&buf[..n_bytes], b"hello");
    // The kernel may choose a name for an unnamed socket.
    if !name.is_empty() {
        assert_eq!(from.as_abstract_name(), Some(name));
    }
}

/// Returns a socket with a name that the kernel chose.
#[cfg(target_os = "linux")]
fn autobound() -> std::io::Result<net::UnixDatagram> {
    let name =
        net::SocketAddr::from_abstract_name(format!("polyloop-fuzz-{}", std::process::id()))?;
    net::UnixDatagram::bind_addr(&name)
}
