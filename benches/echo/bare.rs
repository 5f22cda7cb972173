//! A minimal echo server: a bare loop over epoll.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use libc::epoll_event;

/// The buffer that all connections of a server share.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Serves with edges (registered once, read until a short read) or levels.
pub(crate) fn serve(listener: TcpListener, edge: bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    // SAFETY: the call takes no pointers.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    add(epoll, listener.as_raw_fd(), libc::EPOLLIN as u32)?;
    let mask = if edge {
        libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET
    } else {
        libc::EPOLLIN | libc::EPOLLRDHUP
    } as u32;
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = vec![epoll_event { events: 0, u64: 0 }; 1_024];
    loop {
        // SAFETY: `events` is valid for writes of its own length.
        let n = check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 1_024, -1) })?;
        for event in &events[..n as usize] {
            let fd = event.u64 as usize;
            if fd == listener.as_raw_fd() as usize {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let fd = stream.as_raw_fd() as usize;
                    if streams.len() <= fd {
                        streams.resize_with(fd + 1, || None);
                    }
                    streams[fd] = Some(stream);
                    add(epoll, fd as i32, mask)?;
                }
            } else if event.events & libc::EPOLLIN as u32 != 0
                && let Some(stream) = &mut streams[fd]
                && !echo(stream, &mut buffer)
            {
                streams[fd] = None;
            }
        }
    }
}

/// Echoes the available bytes. Returns `false` after the connection has ended.
fn echo(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    loop {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(n) => {
                let mut rest = &buffer[..n];
                while !rest.is_empty() {
                    match stream.write(rest) {
                        Ok(n) => rest = &rest[n..],
                        // The clients of this bench always read.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return false,
                    }
                }
                if n < buffer.len() {
                    return true;
                }
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

fn add(epoll: i32, fd: i32, events: u32) -> io::Result<()> {
    let mut event = epoll_event { events, u64: fd as u64 };
    // SAFETY: `event` is a local that outlives the call.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
