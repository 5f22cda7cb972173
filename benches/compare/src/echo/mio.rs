//! The echo server on mio, from its `tcp_server` example: a hand-written loop that reads until it would block.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::BUFFER_BYTES;

const SERVER: Token = Token(0);

pub(super) fn serve(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut server = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1_024);
    poll.registry().register(&mut server, SERVER, Interest::READABLE)?;
    let mut connections = HashMap::new();
    let mut next = SERVER.0;
    let mut buf = vec![0; BUFFER_BYTES];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                SERVER => loop {
                    let mut connection = match server.accept() {
                        Ok((connection, _)) => connection,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    };
                    connection.set_nodelay(true)?;
                    next += 1;
                    poll.registry().register(&mut connection, Token(next), Interest::READABLE)?;
                    connections.insert(Token(next), connection);
                },
                token => {
                    let Some(connection) = connections.get_mut(&token) else { continue };
                    if event.is_readable()
                        && !echo(connection, &mut buf)
                        && let Some(mut connection) = connections.remove(&token)
                    {
                        poll.registry().deregister(&mut connection)?;
                    }
                }
            }
        }
    }
}

/// Echoes the available bytes. Returns `false` after the connection has ended.
fn echo(connection: &mut TcpStream, buf: &mut [u8]) -> bool {
    loop {
        match connection.read(buf) {
            Ok(0) => return false,
            Ok(n) => {
                let mut rest = &buf[..n];
                while !rest.is_empty() {
                    match connection.write(rest) {
                        Ok(n) => rest = &rest[n..],
                        // The clients of this comparison always read.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return false,
                    }
                }
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
