//! Aim: a task whose I/O never waits lets other tasks run.

mod common;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_core::Stream;
use polyloop::io::{
    BufReader, FrameReader, FrameWriter, Framing, Read, Write, copy, copy_bidirectional,
};
use polyloop::net::{TcpListener, TcpStream, UdpSocket, UnixStream, lookup_host, pipe};
use polyloop::{Backend, timeout};

use common::run_on;

backends!(
    operations_that_never_wait_yield,
    operations_on_buffered_data_yield,
    skipping_an_oversized_line_yields,
    a_flood_in_one_direction_lets_the_other_finish
);

/// Asserts that a task that only repeats `step` lets a timer fire.
async fn assert_yields(what: &str, mut step: impl AsyncFnMut() + 'static) {
    let is_over = Rc::new(Cell::new(false));
    let busy = polyloop::spawn({
        let is_over = is_over.clone();
        async move {
            let mut n_steps = 0;
            while !is_over.get() {
                step().await;
                n_steps += 1;
                assert!(n_steps < 3_000_000, "it never yields");
            }
        }
    });
    polyloop::sleep(Duration::from_millis(2)).await;
    is_over.set(true);
    busy.await.unwrap_or_else(|error| panic!("{what}: {error}"));
}

fn operations_that_never_wait_yield(backend: Backend) {
    run_on(backend, async {
        // A port that refuses connections: bound, so that it is not reused, and not listening.
        let refusing = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refusing = net::SocketAddr::new(refusing.ip(), refusing.port());
        assert_yields("a numeric address", async || {
            lookup_host("127.0.0.1:80").await.unwrap();
        })
        .await;
        assert_yields("a malformed address", async || {
            lookup_host("127.0.0.1").await.unwrap_err();
        })
        .await;
        assert_yields("a refused connection", async move || {
            TcpStream::connect(refusing).await.unwrap_err();
        })
        .await;
        assert_yields("a connection to no address", async || {
            TcpStream::connect(&[][..]).await.unwrap_err();
        })
        .await;
        assert_yields("a Unix path without a listener", async || {
            UnixStream::connect("/nonexistent/socket").await.unwrap_err();
        })
        .await;
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = udp.local_addr().unwrap();
        assert_yields("a connected datagram socket", async move || {
            udp.connect(addr).await.unwrap();
            udp.writable().await.unwrap();
            udp.send_many(&[]).await.unwrap();
        })
        .await;

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert_yields("nothing to read or write", async move || {
            stream.read_exact(&mut []).await.unwrap();
            stream.write_all(&[]).await.unwrap();
            stream.write_all_vectored(&mut [IoSlice::new(&[])]).await.unwrap();
            stream.writable().await.unwrap();
            Write::shutdown(&mut stream).await.unwrap();
        })
        .await;
        let (accepted, _) = listener.accept().await.unwrap();
        assert_yields("the end of a stream", async move || {
            assert_eq!(accepted.read(&mut [0]).await.unwrap(), 0);
            accepted.readable().await.unwrap();
            assert_eq!(accepted.peek(&mut [0]).await.unwrap(), 0);
        })
        .await;
        assert_yields("bytes in memory", async || {
            let (mut from, mut to) = (&b"bytes"[..], Vec::new());
            from.read(&mut [0]).await.unwrap();
            to.write(b"bytes").await.unwrap();
            copy(&mut from, &mut to).await.unwrap();
        })
        .await;
        let mut frames = FrameWriter::new(Vec::new(), Framing::default());
        assert_yields("a frame written to memory", async move || {
            frames.queue(b"frame").unwrap();
            frames.flush().await.unwrap();
        })
        .await;
        let (reader, writer) = pipe().unwrap();
        assert_yields("a pipe with capacity and bytes", async move || {
            writer.write_all(b"x").await.unwrap();
            reader.read_exact(&mut [0]).await.unwrap();
        })
        .await;
    });
}

fn operations_on_buffered_data_yield(backend: Backend) {
    /// Reads zeros, each of which is a part or an empty frame, without spending the budget.
    struct Zeros;

    impl Read for Zeros {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            buf.fill(0);
            Ok(buf.len())
        }
    }

    run_on(backend, async {
        let mut reader = BufReader::new(Zeros);
        assert_yields("parts in memory", async move || {
            assert_eq!(reader.read_until(0).await.unwrap(), Some(&[0][..]));
        })
        .await;
        let mut reader = BufReader::new(Zeros);
        assert_yields("parts in memory as a stream", async move || {
            let mut parts = pin!(reader.split(0));
            let part = poll_fn(|cx| parts.as_mut().poll_next(cx)).await;
            assert_eq!(part.unwrap().unwrap(), b"");
        })
        .await;
        let mut frames = FrameReader::new(Zeros, Framing::big_endian(1));
        assert_yields("frames in memory", async move || {
            assert_eq!(frames.next().await.unwrap(), Some(&b""[..]));
        })
        .await;
        let mut reader = BufReader::new(Zeros);
        assert_yields("bytes in memory, read one by one", async move || {
            assert_eq!(reader.read(&mut [1]).await.unwrap(), 1);
        })
        .await;
        let mut reader = BufReader::new(Zeros);
        assert_yields("bytes in memory, filled in", async move || {
            assert!(!reader.fill_buf().await.unwrap().is_empty());
            assert!(reader.fill_to(1).await.unwrap());
            reader.consume(1);
        })
        .await;
    });
}

fn skipping_an_oversized_line_yields(backend: Backend) {
    /// Reads the same byte indefinitely, without spending the budget.
    struct Endless(u8);

    impl Read for Endless {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            buf.fill(self.0);
            Ok(buf.len())
        }
    }

    run_on(backend, async {
        let mut reader = BufReader::with_limit(Endless(b'x'), 100);
        assert!(reader.next_line().await.is_err());
        assert_yields("an endless line", async move || {
            timeout(Duration::from_micros(1), reader.next_line()).await.unwrap_err();
        })
        .await;
        let mut frames = FrameReader::new(Endless(0xff), Framing::big_endian(1).with_limit(1));
        assert!(frames.next().await.is_err());
        assert_yields("frames after one that was too long", async move || {
            assert_eq!(frames.next().await.unwrap(), None);
        })
        .await;
    });
}

fn a_flood_in_one_direction_lets_the_other_finish(backend: Backend) {
    /// Reads a byte that is always available, and discards writes.
    struct Flood(Rc<Cell<u32>>);

    impl Read for &Flood {
        async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            std::future::poll_fn(polyloop::driver::poll_proceed).await;
            self.0.set(self.0.get() + 1);
            assert!(self.0.get() < 1_000_000, "the other direction was not polled");
            buf[0] = 0;
            Ok(1)
        }
    }

    impl Write for &Flood {
        async fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("enough"))
        }

        async fn shutdown(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Writes indefinitely, and reads after a while.
    struct Sink;

    impl Read for &Sink {
        async fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
            polyloop::sleep(Duration::from_millis(1)).await;
            std::future::poll_fn(polyloop::driver::poll_proceed).await;
            Ok(1)
        }
    }

    impl Write for &Sink {
        async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        async fn shutdown(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    run_on(backend, async {
        let error = copy_bidirectional(&Flood(Rc::default()), &Sink).await.unwrap_err();
        assert_eq!(error.to_string(), "enough");
    });
}
