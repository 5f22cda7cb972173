//! A custom selector: it reports what the runtime needs to know about it.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use polyloop::Backend;
use polyloop::Runtime;
use polyloop::net::{TcpListener, TcpStream};
use polyloop::runtime::metrics;
use polyloop::selectors::{
    Events, Interest, Mode, Notifier, Registration, Selector, SystemCalls, Token,
};

/// Forwards everything to epoll, under another name.
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

    fn notifier(&self) -> io::Result<Notifier> {
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

/// Echoes messages, and returns the number of receives per message at each end.
///
/// Both ends are tasks of one loop, so that an answer never arrives before its reader has tried to read again.
fn receives_per_message(short_read_is_empty: bool) -> f64 {
    const N_MESSAGES: usize = 1_000;
    let inner = Backend::Epoll.open().unwrap();
    let selector = Box::new(Mine { inner, short_read_is_empty });
    let runtime = Runtime::builder().selector(selector).build().unwrap();
    let n_calls = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let before = metrics().io_calls;
        let echoing = polyloop::spawn(async move {
            let mut buf = [0; 1_024];
            loop {
                match stream.read(&mut buf).await.unwrap() {
                    0 => break,
                    n_bytes => stream.write_all(&buf[..n_bytes]).await.unwrap(),
                }
            }
        });
        let mut buf = [0; 1_024];
        for _ in 0..N_MESSAGES {
            client.write_all(&[7; 64]).await.unwrap();
            assert_eq!(client.read(&mut buf).await.unwrap(), 64);
        }
        let n_calls = metrics().io_calls - before;
        drop(client);
        echoing.await.unwrap();
        n_calls
    });
    // At each end, each message takes one send.
    n_calls.unwrap() as f64 / (2 * N_MESSAGES) as f64 - 1.0
}

#[test]
fn a_selector_with_edges_after_short_reads_takes_one_receive_for_each_message() {
    let n_receives = receives_per_message(true);
    assert!((0.99..=1.02).contains(&n_receives), "{n_receives} receives per message");
}

#[test]
fn a_selector_without_that_guarantee_takes_a_second_receive() {
    let n_receives = receives_per_message(false);
    assert!((1.98..=2.02).contains(&n_receives), "{n_receives} receives per message");
}
