//! Aim: a bracketed IPv6 address with a device name as its zone is accepted wherever an address is, and is
//! not looked up.

mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;

use polyloop::Backend;
use polyloop::net::{Server, TcpListener, TcpStream, UdpSocket, lookup_host};

use common::run_on;

backends!(
    a_zone_names_a_device_wherever_an_address_is_taken,
    a_zone_without_a_device_is_an_error_that_names_it,
);

const LOOPBACK: &str =
    if cfg!(any(target_os = "linux", target_os = "android")) { "lo" } else { "lo0" };

/// Returns this host's addresses that need a zone, with their devices, and the loopback address.
fn zoned_addrs() -> Vec<String> {
    let mut addrs = vec![format!("::1%{LOOPBACK}")];
    let listed = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in listed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        // The flags show whether it is usable.
        if let [digits, _, _, "20", "80", device] = fields[..] {
            let digits = u128::from_str_radix(digits, 16).unwrap();
            addrs.push(format!("{}%{device}", std::net::Ipv6Addr::from(digits)));
        }
    }
    if addrs.len() == 1 {
        println!("left out: no link-local address on this host");
    }
    addrs
}

fn a_zone_names_a_device_wherever_an_address_is_taken(backend: Backend) {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("left out: no IPv6 on this host");
        return;
    }
    run_on(backend, async {
        for host in zoned_addrs() {
            let any_port = format!("[{host}]:0");
            let listener = TcpListener::bind(&any_port).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect(format!("[{host}]:{port}")).await.unwrap();
            let (server, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, client.local_addr().unwrap(), "{host}");
            drop(server);
            TcpStream::connect((host.as_str(), port)).await.unwrap();
            assert!(TcpListener::bind((host.as_str(), 0)).is_ok());

            let receiver = UdpSocket::bind(&any_port).unwrap();
            let port = receiver.local_addr().unwrap().port();
            let sender = UdpSocket::bind(&any_port).unwrap();
            sender.connect(format!("[{host}]:{port}")).await.unwrap();
            sender.send(b"x").await.unwrap();
            assert_eq!(receiver.recv_from(&mut [0; 8]).await.unwrap().0, 1);

            assert_eq!(Server::bind(&any_port).unwrap().local_addrs().len(), 1);
            let found = lookup_host(format!("[{host}]:80")).await.unwrap();
            let SocketAddr::V6(found) = found[0] else { panic!("{found:?}") };
            assert_ne!(found.scope_id(), 0);
        }
    });
}

fn a_zone_without_a_device_is_an_error_that_names_it(backend: Backend) {
    run_on(backend, async {
        let error = TcpStream::connect("[fe80::1%not-here]:80").await.unwrap_err();
        assert!(error.to_string().contains("fe80::1%not-here"), "{error}");
        let error = TcpListener::bind("[fe80::1%not-here]:80").unwrap_err();
        assert!(error.to_string().contains("fe80::1%not-here"), "{error}");
        for text in ["[fe80::1%]:80", "[localhost]:80", "localhost"] {
            for error in [
                TcpStream::connect(text).await.unwrap_err(),
                TcpListener::bind(text).unwrap_err(),
                UdpSocket::bind(text).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains(text), "{error}");
            }
        }
    });
}
