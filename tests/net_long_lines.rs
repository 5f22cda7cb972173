//! Aim: a line, a part or a frame over the limit is one error, and never blocks the loop.

mod common;

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use polyloop::Backend;
use polyloop::io::{BufReader, FrameReader, Framing, Read, TooLong};
use polyloop::net::UnixStream;

use common::run_on;

backends!(
    a_line_over_the_limit_is_reported_once_and_the_next_one_is_read,
    a_peer_that_closes_within_a_line_over_the_limit_ends_the_reader,
    a_discard_resumes_where_it_was_cancelled,
);

const MEBIBYTE: usize = 1 << 20;

/// Reads lines until the stream ends, continuing after errors.
async fn read_lines(stream: UnixStream) -> (Vec<String>, usize) {
    let mut reader = BufReader::new(stream);
    let (mut lines, mut n_errors) = (Vec::new(), 0);
    loop {
        match reader.next_line().await {
            Ok(Some(line)) => lines.push(line.to_owned()),
            Ok(None) => return (lines, n_errors),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                n_errors += 1;
                assert!(n_errors < 10, "the same line is reported again and again: {error}");
            }
        }
    }
}

fn a_line_over_the_limit_is_reported_once_and_the_next_one_is_read(backend: Backend) {
    run_on(backend, async {
        let (client, server) = UnixStream::pair().unwrap();
        let reading = polyloop::spawn(read_lines(server));
        client.write_all(b"first\n").await.unwrap();
        client.write_all(&vec![b'x'; 3 * MEBIBYTE]).await.unwrap();
        client.write_all(b"\nsecond\n").await.unwrap();
        client.write_all(&vec![b'y'; MEBIBYTE + 1]).await.unwrap();
        client.write_all(b"\nthird").await.unwrap();
        drop(client);
        let (lines, n_errors) = reading.await.unwrap();
        assert_eq!(
            (&lines[..], n_errors),
            (&["first", "second", "third"].map(String::from)[..], 2)
        );
    });
}

fn a_peer_that_closes_within_a_line_over_the_limit_ends_the_reader(backend: Backend) {
    for n_bytes in [MEBIBYTE + 1, 2 * MEBIBYTE] {
        run_on(backend, async {
            let (client, server) = UnixStream::pair().unwrap();
            let reading = polyloop::spawn(read_lines(server));
            client.write_all(&vec![b'x'; n_bytes]).await.unwrap();
            drop(client);
            assert_eq!(reading.await.unwrap(), (vec![], 1));
        });
    }
}

fn a_discard_resumes_where_it_was_cancelled(backend: Backend) {
    run_on(backend, async {
        let (client, server) = UnixStream::pair().unwrap();
        let mut reader = BufReader::with_limit(server, 100);
        client.write_all(&[b'x'; 5_000]).await.unwrap();
        assert!(reader.next_line().await.is_err());
        for _ in 0..3 {
            // It discards the buffered bytes and waits.
            let line = reader.next_line();
            polyloop::timeout(std::time::Duration::from_millis(1), line).await.unwrap_err();
            assert!(reader.buffer().is_empty());
            client.write_all(&[b'x'; 5_000]).await.unwrap();
        }
        client.write_all(b"\nnext\n").await.unwrap();
        assert_eq!(reader.next_line().await.unwrap(), Some("next"));
    });
}

/// Returns its bytes in pieces that end after each byte whose bit in `cuts` is set, and is pending before each
/// piece and before the end.
struct Pieces {
    bytes: &'static [u8],
    n_read: usize,
    cuts: u32,
    is_ready: bool,
}

impl Pieces {
    fn cut(bytes: &'static [u8], cuts: u32) -> Pieces {
        Pieces { bytes, n_read: 0, cuts, is_ready: false }
    }
}

impl Read for Pieces {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        poll_fn(|_| {
            self.is_ready = !self.is_ready;
            if self.is_ready { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let mut n_bytes = 0;
        while n_bytes < buf.len() && self.n_read < self.bytes.len() {
            buf[n_bytes] = self.bytes[self.n_read];
            (n_bytes, self.n_read) = (n_bytes + 1, self.n_read + 1);
            if self.cuts >> (self.n_read - 1) & 1 == 1 {
                break;
            }
        }
        Ok(n_bytes)
    }
}

/// Polls `future` up to `n_polls` times, and drops it.
fn poll_times<F: Future>(future: F, n_polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..n_polls {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Some(output);
        }
    }
    None
}

/// The result for a part: its bytes, or the limit that it exceeds.
type Part = Result<Vec<u8>, usize>;

/// Returns the limit of the error for a part that is too long.
fn limit_of(error: &io::Error) -> usize {
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    TooLong::from_error(error)
        .unwrap_or_else(|| panic!("not an error of the limit: {error}"))
        .limit()
}

/// The model: the parts of `bytes`, with their delimiters.
fn expected_parts(bytes: &[u8], limit: usize) -> Vec<Part> {
    let parts = bytes.split_inclusive(|byte| *byte == b'\n');
    parts.map(|part| if part.len() > limit { Err(limit) } else { Ok(part.to_vec()) }).collect()
}

/// A part without its delimiter.
fn bare(part: Part) -> Part {
    part.map(|mut part| {
        part.pop_if(|byte| *byte == b'\n');
        part
    })
}

/// Parts below, at and above every limit, the last with and without a delimiter.
const DATA: [&[u8]; 4] = [b"abcd\nab\n\nabc", b"abcde\nabcde", b"a\nabcdefg\n", b"abcdefgh"];

fn for_all_cuts_and_limits(mut check: impl FnMut(&'static [u8], u32, usize)) {
    for data in DATA {
        for cuts in 0..1 << (data.len() - 1) {
            for limit in 1..9 {
                check(data, cuts, limit);
            }
        }
    }
}

#[test]
fn parts_over_the_limit_survive_every_split_and_every_drop() {
    for_all_cuts_and_limits(|data, cuts, limit| {
        let expected = expected_parts(data, limit);
        for n_polls in [1, 2, 3, 1_000] {
            let mut reader = BufReader::with_limit(Pieces::cut(data, cuts), limit);
            let mut parts: Vec<Part> = Vec::new();
            loop {
                match poll_times(reader.read_until(b'\n'), n_polls) {
                    None => {}
                    Some(Ok(Some(part))) => parts.push(Ok(part.to_vec())),
                    Some(Ok(None)) => break,
                    Some(Err(error)) => parts.push(Err(limit_of(&error))),
                }
                assert!(reader.buffer().len() <= limit);
                assert!(parts.len() <= expected.len(), "{parts:?} instead of {expected:?}");
            }
            assert_eq!(parts, expected, "cut at {cuts:b}, dropped after {n_polls}");
        }
    });
}

#[test]
fn lines_and_parts_as_streams_have_the_same_limit() {
    fn collect<T>(stream: impl Stream<Item = io::Result<T>>) -> Vec<Result<T, usize>> {
        let mut stream = pin!(stream);
        let cx = &mut Context::from_waker(Waker::noop());
        let mut items = Vec::new();
        while items.len() < 20 {
            match stream.as_mut().poll_next(cx) {
                Poll::Pending => {}
                Poll::Ready(Some(item)) => items.push(item.map_err(|error| limit_of(&error))),
                Poll::Ready(None) => break,
            }
        }
        items
    }

    for_all_cuts_and_limits(|data, cuts, limit| {
        let expected: Vec<Part> = expected_parts(data, limit).into_iter().map(bare).collect();
        let mut reader = BufReader::with_limit(Pieces::cut(data, cuts), limit);
        let lines = collect(reader.lines());
        let lines: Vec<Part> = lines.into_iter().map(|line| line.map(String::into_bytes)).collect();
        assert_eq!(lines, expected, "cut at {cuts:b}");
        let mut reader = BufReader::with_limit(Pieces::cut(data, cuts), limit);
        assert_eq!(collect(reader.split(b'\n')), expected, "cut at {cuts:b}");
    });
}

#[test]
fn a_line_that_is_not_utf8_is_a_different_error_than_one_over_the_limit() {
    let mut reader = BufReader::with_limit(&b"\xff\n12345\n"[..], 5);
    let no_text = poll_times(reader.next_line(), 1).unwrap().unwrap_err();
    assert_eq!((no_text.kind(), TooLong::from_error(&no_text)), (ErrorKind::InvalidData, None));
    let too_long = poll_times(reader.next_line(), 1).unwrap().unwrap_err();
    assert_eq!(limit_of(&too_long), 5);
}

#[test]
fn other_reads_start_after_a_part_over_the_limit() {
    type Read = fn(&mut BufReader<&'static [u8]>) -> Vec<u8>;
    let reads: [Read; 4] = [
        |reader| poll_times(reader.read_until(b';'), 1).unwrap().unwrap().unwrap().to_vec(),
        |reader| {
            while poll_times(reader.fill_buf(), 1).unwrap().unwrap().len() < 5 {}
            reader.buffer()[..5].to_vec()
        },
        |reader| {
            assert!(poll_times(reader.fill_to(5), 1).unwrap().unwrap());
            reader.buffer()[..5].to_vec()
        },
        |reader| {
            let mut buf = [0; 5];
            assert_eq!(poll_times(reader.read(&mut buf), 1).unwrap().unwrap(), 5);
            buf.to_vec()
        },
    ];
    for read in reads {
        for (data, n_consumed) in [
            (&b"0123456;;89\nnext;last"[..], 0),
            (b"0123456;\nnext;last", 0),
            (b"0123456;\nnext;last", 2),
        ] {
            let mut reader = BufReader::with_limit(data, 8);
            assert!(poll_times(reader.read_until(b'\n'), 1).unwrap().is_err());
            // The start can be reported until then.
            assert_eq!(reader.buffer(), b"0123456;");
            reader.consume(n_consumed);
            assert_eq!(read(&mut reader), b"next;");
        }
    }
}

#[test]
fn into_parts_within_a_part_over_the_limit_returns_all_bytes() {
    let mut reader = BufReader::with_limit(&b"0123456789\nnext"[..], 4);
    assert!(poll_times(reader.read_until(b'\n'), 1).unwrap().is_err());
    let (rest, mut read) = reader.into_parts();
    read.extend(rest);
    assert_eq!(read, b"0123456789\nnext");
}

#[test]
fn a_frame_over_the_limit_is_reported_once_and_is_the_last() {
    let framing = Framing::big_endian(1).with_limit(3);
    for data in [&b"\x01a\x04abcd\x01b"[..], b"\x01a\x03ab", b"\x01a\xff"] {
        let mut reader = FrameReader::new(data, framing);
        assert_eq!(poll_times(reader.next(), 1).unwrap().unwrap(), Some(&b"a"[..]));
        let error = poll_times(reader.next(), 1).unwrap().unwrap_err();
        let is_over = TooLong::from_error(&error).is_some_and(|error| error.limit() == 3);
        assert_eq!(is_over, error.kind() == ErrorKind::InvalidData, "{error:?}");
        for _ in 0..3 {
            assert_eq!(poll_times(reader.next(), 1).unwrap().unwrap(), None);
        }
        // The caller has to interpret what follows.
        let (rest, mut read) = reader.into_parts();
        read.extend(rest);
        assert_eq!(read, data[2..]);
    }
}
