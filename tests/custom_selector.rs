//! A selector from outside the library: what the runtime needs to know about it, it says itself.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use polyloop::net::TcpListener;
use polyloop::reactor::{
    Backend, Events, Interest, Mode, Notifier, Registration, Selector, SystemCalls, Token,
};
use polyloop::{Runtime, metrics};

/// Passes everything on to epoll, under another name.
#[derive(Debug)]
struct Mine {
    inner: Box<dyn Selector>,
    short_read_is_empty: bool,
}

impl Selector for Mine {
    fn backend(&self) -> Backend {
        Backend::Custom("mine")
    }

    fn supports(&self, mode: Mode) -> bool {
        self.inner.supports(mode)
    }

    fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.inner.register(fd, token, interest, mode)
    }

    fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.inner.modify(fd, token, interest, mode)
    }

    fn unregister(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.inner.unregister(fd)
    }

    fn select(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.select(events, timeout)
    }

    fn notifier(&self) -> Notifier {
        self.inner.notifier()
    }

    fn get(&self, fd: BorrowedFd<'_>) -> Option<Registration> {
        self.inner.get(fd)
    }

    fn registrations(&self) -> Vec<Registration> {
        self.inner.registrations()
    }

    fn short_read_is_empty(&self) -> bool {
        self.short_read_is_empty
    }

    fn system_calls(&self) -> SystemCalls {
        self.inner.system_calls()
    }
}

/// Echoes messages, and returns how many receives each of them took.
fn receives_per_message(short_read_is_empty: bool) -> f64 {
    const N_MESSAGES: usize = 1_000;
    let inner = Backend::Epoll.open().unwrap();
    let selector = Box::new(Mine { inner, short_read_is_empty });
    let runtime = Runtime::builder().selector(selector).build().unwrap();
    let n_calls = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut client = std::net::TcpStream::connect(addr).unwrap();
            let mut buf = [0; 64];
            for _ in 0..N_MESSAGES {
                client.write_all(&[7; 64]).unwrap();
                client.read_exact(&mut buf).unwrap();
            }
        });
        let (stream, _) = listener.accept().await.unwrap();
        let before = metrics().n_io_calls;
        let mut buf = [0; 1_024];
        loop {
            match stream.read(&mut buf).await.unwrap() {
                0 => break,
                n_bytes => stream.write_all(&buf[..n_bytes]).await.unwrap(),
            }
        }
        client.join().unwrap();
        metrics().n_io_calls - before
    });
    // Each message takes one send.
    (n_calls.unwrap() as f64 - N_MESSAGES as f64) / N_MESSAGES as f64
}

#[test]
fn a_selector_with_edges_after_short_reads_takes_one_receive_for_each_message() {
    let n_receives = receives_per_message(true);
    assert!(n_receives <= 1.02, "{n_receives} receives per message");
}

#[test]
fn a_selector_that_does_not_promise_them_takes_a_second_one_to_be_sure() {
    let n_receives = receives_per_message(false);
    // Not always two: the next message may be there before the second one is tried.
    assert!(n_receives > 1.1, "{n_receives} receives per message");
}
