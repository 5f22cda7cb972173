//! Aim: any number of slices, and empty slices, are read and written like others.

mod common;

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll, Waker};

use polyloop::Backend;
use polyloop::io::{BufReader, Read};
use polyloop::net::{TcpListener, TcpStream, UnixStream, pipe};

use common::run_on;

backends!(
    more_slices_than_a_call_takes_are_written_and_read_whole,
    a_call_takes_as_many_slices_as_the_system_allows,
    leading_empty_slices_are_not_the_end_of_the_stream,
    reading_into_an_empty_buffer_returns_at_once,
);

/// More than one system call takes, and not a multiple of that.
const N_SLICES: usize = 5_000;

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Repeats a test for every kind of stream, with a reader and a writer.
macro_rules! for_each_stream {
    (|$reader:ident, $writer:ident| $body:block) => {{
        let ($reader, $writer) = tcp_pair().await;
        $body
    }
    {
        let ($reader, $writer) = UnixStream::pair().unwrap();
        $body
    }
    {
        let ($reader, $writer) = pipe().unwrap();
        $body
    }
    {
        let (stream, other) = tcp_pair().await;
        let ($reader, _kept) = stream.split();
        let (_also_kept, $writer) = other.split();
        $body
    }
    {
        let (stream, other) = UnixStream::pair().unwrap();
        let ($reader, _kept) = stream.into_split();
        let (_also_kept, $writer) = other.into_split();
        $body
    }};
}

fn message() -> Vec<[u8; 3]> {
    (0..N_SLICES).map(|i| [(i % 251) as u8, (i / 251) as u8, 7]).collect()
}

fn more_slices_than_a_call_takes_are_written_and_read_whole(backend: Backend) {
    run_on(backend, async {
        for_each_stream!(|reader, writer| {
            let message = message();
            let mut slices: Vec<_> = message.iter().map(|bytes| IoSlice::new(bytes)).collect();
            writer.write_all_vectored(&mut slices).await.unwrap();
            let mut received = vec![[0; 3]; N_SLICES];
            let mut n_bytes = 0;
            while n_bytes < 3 * N_SLICES {
                let mut rest = &mut received.as_flattened_mut()[n_bytes..];
                let mut slices = Vec::new();
                while !rest.is_empty() {
                    let (slice, others) = rest.split_at_mut(rest.len().min(3));
                    slices.push(IoSliceMut::new(slice));
                    rest = others;
                }
                let n = reader.read_vectored(&mut slices).await.unwrap();
                assert!(n > 0, "the stream has ended after {n_bytes} bytes");
                n_bytes += n;
            }
            assert!(received == message, "bytes were lost or changed");
        });
    });
}

fn a_call_takes_as_many_slices_as_the_system_allows(backend: Backend) {
    run_on(backend, async {
        for_each_stream!(|reader, writer| {
            let slices = vec![IoSlice::new(b"x"); N_SLICES];
            assert_eq!(writer.write_vectored(&slices).await.unwrap(), 1_024);
            assert_eq!(writer.try_write_vectored(&slices).unwrap(), 1_024);
            let mut buf = vec![0; N_SLICES];
            let mut slices: Vec<_> = buf.chunks_mut(1).map(IoSliceMut::new).collect();
            assert_eq!(reader.read_vectored(&mut slices).await.unwrap(), 1_024);
            assert_eq!(reader.try_read_vectored(&mut slices).unwrap(), 1_024);
        });
    });
}

fn leading_empty_slices_are_not_the_end_of_the_stream(backend: Backend) {
    run_on(backend, async {
        for_each_stream!(|reader, writer| {
            let mut slices = vec![IoSlice::new(b""); N_SLICES];
            slices.push(IoSlice::new(b"end"));
            assert_eq!(writer.write_vectored(&slices).await.unwrap(), 3);
            writer.write_all_vectored(&mut slices).await.unwrap();
            let mut empty = [[0; 0]; N_SLICES];
            let mut buf = [0; 6];
            let mut slices: Vec<_> = empty.iter_mut().map(|slice| IoSliceMut::new(slice)).collect();
            slices.push(IoSliceMut::new(&mut buf));
            assert_eq!(reader.read_vectored(&mut slices).await.unwrap(), 6);
            assert_eq!(&buf, b"endend");
        });
    });
}

/// Polls once, and panics if the future is pending.
fn at_once<F: Future<Output = io::Result<usize>>>(future: F) -> usize {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(n_bytes) => n_bytes.unwrap(),
        Poll::Pending => panic!("pending"),
    }
}

fn reading_into_an_empty_buffer_returns_at_once(backend: Backend) {
    run_on(backend, async {
        for_each_stream!(|reader, writer| {
            // Before any data arrives, after a read that would block, and when data is available.
            for round in 0..3 {
                assert_eq!(at_once(reader.read(&mut [])), 0, "round {round}");
                assert_eq!(at_once(reader.read_vectored(&mut [])), 0);
                let mut none = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
                assert_eq!(at_once(reader.read_vectored(&mut none)), 0);
                assert_eq!(reader.try_read(&mut []).unwrap(), 0);
                assert_eq!(reader.try_read_vectored(&mut none).unwrap(), 0);
                if round == 0 {
                    let error = reader.try_read(&mut [0]).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                } else if round == 1 {
                    writer.write_all(b"x").await.unwrap();
                    reader.readable().await.unwrap();
                }
            }
            assert_eq!(reader.read(&mut [0]).await.unwrap(), 1);
        });
        let (stream, _other) = UnixStream::pair().unwrap();
        assert_eq!(at_once(BufReader::new(&stream).read(&mut [])), 0);
    });
}
