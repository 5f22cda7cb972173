//! Copies, lines and frames: all data arrives unchanged, under every split of the data and with every future
//! dropped at every poll.

mod common;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use polyloop::Backend;
use polyloop::io::{
    BufReader, Copier, FrameReader, FrameWriter, Framing, Read, Write, copy, copy_bidirectional,
};
use polyloop::net::{TcpListener, TcpStream, UnixStream, pipe};

use common::run_on;

backends!(
    a_copy_ends_with_its_reader,
    a_copy_that_is_dropped_at_every_poll_loses_nothing,
    both_directions_are_copied_and_end_independently,
    an_error_ends_both_directions,
    lines_are_read_as_they_arrive,
    frames_cross_a_connection,
    writing_that_is_dropped_at_every_poll_loses_and_repeats_nothing,
    reading_that_is_dropped_at_every_poll_loses_nothing,
    a_file_is_sent_and_resumes_where_it_stopped,
    a_file_that_is_too_short_is_an_error,
);

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use super::{a_splice_that_is_dropped_at_every_poll_loses_nothing, splicing_moves_a_mebibyte};

    crate::backends!(
        splicing_moves_a_mebibyte,
        a_splice_that_is_dropped_at_every_poll_loses_nothing,
    );
}

/// Returns its pieces one by one, and is pending before each and before the end.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    is_ready: bool,
}

impl Pieces {
    /// Cuts `data` after each byte whose bit in `cuts` is set.
    fn cut(data: &[u8], cuts: u32) -> Pieces {
        let mut pieces = VecDeque::from([Vec::new()]);
        for (i, byte) in data.iter().enumerate() {
            pieces.back_mut().unwrap().push(*byte);
            if cuts & (1 << i) != 0 {
                pieces.push_back(Vec::new());
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Pieces { pieces, is_ready: false }
    }

    /// Alternates between pending and ready.
    async fn take_turn(is_ready: &mut bool) {
        poll_fn(|_| {
            *is_ready = !*is_ready;
            if *is_ready { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }
}

impl Read for Pieces {
    async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Pieces::take_turn(&mut self.is_ready).await;
        let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
        let n = piece.len().min(buf.len());
        buf[..n].copy_from_slice(&piece[..n]);
        piece.drain(..n);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(n)
    }

    /// Is pending for one poll, as a socket whose read would block.
    async fn readable(&mut self) -> io::Result<()> {
        polyloop::yield_now().await;
        Ok(())
    }
}

/// Accepts a given number of bytes at a time, and is pending before each.
struct Gulps {
    received: Vec<u8>,
    /// The accepted sizes, repeated cyclically.
    sizes: Vec<usize>,
    n_writes: usize,
    is_ready: bool,
    has_ended: bool,
}

impl Gulps {
    fn of(sizes: &[usize]) -> Gulps {
        let (received, sizes) = (Vec::new(), sizes.to_vec());
        Gulps { received, sizes, n_writes: 0, is_ready: false, has_ended: false }
    }
}

impl Write for Gulps {
    async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Pieces::take_turn(&mut self.is_ready).await;
        let n = buf.len().min(self.sizes[self.n_writes % self.sizes.len()]);
        self.n_writes += 1;
        self.received.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.has_ended = true;
        Ok(())
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

/// The number of polls before a future is dropped. The last means never.
const N_POLLS: [usize; 4] = [1, 2, 3, 1_000];

#[test]
fn lines_survive_every_split_and_every_drop() {
    let data = b"ab\r\n\n\rc\nxyz";
    let expected = ["ab", "", "\rc", "xyz"];
    for cuts in 0..1 << (data.len() - 1) {
        for n_polls in N_POLLS {
            let mut reader = BufReader::new(Pieces::cut(data, cuts));
            let mut lines: Vec<String> = Vec::new();
            loop {
                match poll_times(reader.next_line(), n_polls) {
                    None => {}
                    Some(Ok(Some(line))) => lines.push(line.to_owned()),
                    Some(Ok(None)) => break,
                    Some(Err(error)) => panic!("{error}"),
                }
            }
            assert_eq!(lines, expected, "cut at {cuts:b}, dropped after {n_polls}");
        }
    }
}

/// Collects all items of a stream, polling it until it is ready.
fn collect<S: Stream>(stream: S) -> Vec<S::Item> {
    let mut stream = pin!(stream);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut items = Vec::new();
    loop {
        match stream.as_mut().poll_next(cx) {
            Poll::Pending => {}
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return items,
        }
    }
}

#[test]
fn the_streams_of_lines_and_parts_yield_what_the_methods_return() {
    for data in [&b"ab\r\n\n\rc\nxy\r"[..], b"\xffa\nb\n", b"\n", b""] {
        for cuts in 0..1 << data.len().saturating_sub(1) {
            let mut reader = BufReader::new(Pieces::cut(data, cuts));
            let mut one_by_one = Vec::new();
            loop {
                match poll_times(reader.next_line(), 1_000).unwrap() {
                    Ok(Some(line)) => one_by_one.push(Ok(line.to_owned())),
                    Ok(None) => break,
                    Err(error) => one_by_one.push(Err(error.kind())),
                }
            }
            let mut reader = BufReader::new(Pieces::cut(data, cuts));
            let lines: Vec<_> = collect(reader.lines())
                .into_iter()
                .map(|line| line.map_err(|error| error.kind()))
                .collect();
            assert_eq!(lines, one_by_one, "cut at {cuts:b}");

            let mut reader = BufReader::new(Pieces::cut(data, cuts));
            let parts = collect(reader.split(b'\n')).into_iter().map(Result::unwrap);
            let expected: Vec<_> = data.split_inclusive(|byte| *byte == b'\n').collect();
            let expected = expected.iter().map(|part| part.strip_suffix(b"\n").unwrap_or(part));
            assert!(parts.eq(expected), "cut at {cuts:b}");
        }
    }
}

#[test]
fn delimiters_may_change_from_call_to_call() {
    for cuts in 0..1 << 8 {
        let mut reader = BufReader::new(Pieces::cut(b"a;b,c;d,e", cuts));
        let mut parts: Vec<Vec<u8>> = Vec::new();
        // One search is dropped after it has read the first piece.
        assert!(poll_times(reader.read_until(b'x'), 2).is_none());
        for delimiter in *b";,,;," {
            loop {
                if let Some(part) = poll_times(reader.read_until(delimiter), 1) {
                    parts.extend(part.unwrap().map(<[u8]>::to_vec));
                    break;
                }
            }
        }
        let expected: [&[u8]; 4] = [b"a;", b"b,", b"c;d,", b"e"];
        assert_eq!(parts, expected, "cut at {cuts:b}");
    }
}

#[test]
fn frames_survive_every_split_and_every_drop() {
    let mut writer = FrameWriter::new(Vec::new(), Framing::big_endian(2));
    for frame in [&b"abc"[..], b"", b"d"] {
        writer.queue(frame).unwrap();
    }
    poll_times(writer.flush(), 1).unwrap().unwrap();
    let (data, unwritten) = writer.into_parts();
    assert!(unwritten.is_empty());
    assert_eq!(data, b"\0\x03abc\0\0\0\x01d");
    for cuts in 0..1 << (data.len() - 1) {
        for n_polls in N_POLLS {
            let mut reader = FrameReader::new(Pieces::cut(&data, cuts), Framing::big_endian(2));
            let mut frames: Vec<Vec<u8>> = Vec::new();
            loop {
                match poll_times(reader.next(), n_polls) {
                    None => {}
                    Some(Ok(Some(frame))) => frames.push(frame.to_vec()),
                    Some(Ok(None)) => break,
                    Some(Err(error)) => panic!("{error}"),
                }
            }
            assert_eq!(frames, [&b"abc"[..], b"", b"d"], "cut at {cuts:b}");
        }
    }
}

#[test]
fn queued_frames_survive_every_short_write_and_every_drop() {
    for size in 1..8 {
        for n_polls in N_POLLS {
            let mut writer = FrameWriter::new(Gulps::of(&[size, 1, 3]), Framing::big_endian(1));
            for frame in [&b"abc"[..], b"", b"defgh"] {
                writer.queue(frame).unwrap();
                // Started and dropped.
                let _ = poll_times(writer.flush(), n_polls);
            }
            while poll_times(writer.shutdown(), n_polls).is_none() {}
            assert_eq!(writer.queued_bytes(), 0);
            let (gulps, _) = writer.into_parts();
            assert_eq!(gulps.received, b"\x03abc\0\x05defgh");
            assert!(gulps.has_ended);
        }
    }
}

#[test]
fn copies_survive_every_split_and_every_drop() {
    let data = b"0123456789";
    for cuts in 0..1 << (data.len() - 1) {
        for sizes in [&[1][..], &[2], &[3, 1], &[100]] {
            for n_polls in N_POLLS {
                let mut copier = Copier::new(Pieces::cut(data, cuts), Gulps::of(sizes));
                let n_bytes = loop {
                    if let Some(copied) = poll_times(copier.run(), n_polls) {
                        break copied.unwrap();
                    }
                };
                let (_, gulps, unwritten) = copier.into_parts();
                assert_eq!((n_bytes, &gulps.received[..]), (10, &data[..]), "cut at {cuts:b}");
                assert!(unwritten.is_empty());
            }
        }
    }
}

#[test]
fn a_cancelled_copy_reports_what_is_left() {
    let mut copier = Copier::new(&b"0123456789"[..], Gulps::of(&[4]));
    assert!(poll_times(copier.run(), 2).is_none());
    assert_eq!(copier.bytes_written(), 4);
    let (_, gulps, unwritten) = copier.into_parts();
    assert_eq!((&gulps.received[..], &unwritten[..]), (&b"0123"[..], &b"456789"[..]));
}

#[test]
fn unbounded_input_is_refused_in_bounded_memory() {
    let endless = vec![b'x'; 100_000];
    let mut reader = BufReader::with_limit(&endless[..], 1_000);
    let error = poll_times(reader.next_line(), 1).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("1000 bytes"), "{error}");
    assert_eq!(reader.buffer().len(), 1_000);

    let mut reader = FrameReader::new(&b"\x7f\xff\xff\xffrest"[..], Framing::default());
    let error = poll_times(reader.next(), 1).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn a_line_that_is_not_utf8_is_an_error_and_the_next_one_is_read() {
    let mut reader = BufReader::new(&b"\xff\xfe\nfine\n"[..]);
    let error = poll_times(reader.next_line(), 1).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(poll_times(reader.next_line(), 1).unwrap().unwrap(), Some("fine"));
}

#[test]
fn a_frame_that_is_cut_off_is_an_error() {
    for data in [&b"\0"[..], b"\0\x02", b"\0\x02a"] {
        let mut reader = FrameReader::new(data, Framing::big_endian(2));
        let error = poll_times(reader.next(), 1).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{data:?}");
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

fn random_bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; n];
    random.fill(&mut bytes);
    bytes
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Sends `bytes` from a new task, and ends the stream.
fn send(stream: TcpStream, bytes: Vec<u8>) {
    drop(polyloop::spawn(async move {
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Open until the peer is done.
        let _ = stream.read(&mut [0]).await;
    }));
}

fn a_copy_ends_with_its_reader(backend: Backend) {
    run_on(backend, async {
        let sent = random_bytes(1 << 20, 1);
        let (client, server) = pair().await;
        send(client, sent.clone());
        let mut received = Vec::new();
        assert_eq!(copy(&server, &mut received).await.unwrap(), 1 << 20);
        assert!(received == sent);
    });
}

fn a_copy_that_is_dropped_at_every_poll_loses_nothing(backend: Backend) {
    run_on(backend, async {
        let sent = random_bytes(1 << 20, 2);
        let (client, front) = pair().await;
        let (back, server) = pair().await;
        send(client, sent.clone());
        let mut copier = Copier::new(front, back);
        let copying = polyloop::spawn(async move {
            loop {
                if let Some(copied) = poll_once(copier.run()).await {
                    assert_eq!(copied.unwrap(), 1 << 20);
                    break;
                }
                polyloop::yield_now().await;
            }
        });
        let mut received = vec![0; 1 << 20];
        server.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
        copying.await.unwrap();
    });
}

fn both_directions_are_copied_and_end_independently(backend: Backend) {
    run_on(backend, async {
        let (client, front) = pair().await;
        let (back, server) = UnixStream::pair().unwrap();
        let proxy = polyloop::spawn(async move { copy_bidirectional(&front, &back).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = Vec::new();
        // It ends although the answer has not started.
        copy(&server, &mut question).await.unwrap();
        assert_eq!(question, b"question");
        server.write_all(b"a longer answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        copy(&client, &mut answer).await.unwrap();
        assert_eq!(answer, b"a longer answer");
        assert_eq!(proxy.await.unwrap().unwrap(), (8, 15));
    });
}

fn an_error_ends_both_directions(backend: Backend) {
    run_on(backend, async {
        let (client, front) = pair().await;
        let (back, server) = pair().await;
        let proxy = polyloop::spawn(async move { copy_bidirectional(&front, &back).await });
        polyloop::yield_now().await;
        client.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(proxy.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    });
}

fn lines_are_read_as_they_arrive(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let mut reader = BufReader::new(&server);
        for text in ["one\ntwo\nth", "ree\n", "four"] {
            client.write_all(text.as_bytes()).await.unwrap();
            if text == "one\ntwo\nth" {
                assert_eq!(reader.next_line().await.unwrap(), Some("one"));
                assert_eq!(reader.next_line().await.unwrap(), Some("two"));
                assert!(poll_once(reader.next_line()).await.is_none());
            }
        }
        drop(client);
        assert_eq!(reader.next_line().await.unwrap(), Some("three"));
        assert_eq!(reader.next_line().await.unwrap(), Some("four"));
        for _ in 0..3 {
            assert_eq!(reader.next_line().await.unwrap(), None);
        }
    });
}

fn frames_cross_a_connection(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let frames: Vec<_> = (0..200).map(|i| random_bytes(i * 97, i as u64)).collect();
        let expected = frames.clone();
        let sending = polyloop::spawn(async move {
            let mut writer = FrameWriter::new(client, Framing::default());
            for frame in &frames {
                writer.queue(frame).unwrap();
                // Half of them are dropped once, and then resumed.
                if frame.len() % 2 == 0 {
                    let _ = poll_once(writer.flush()).await;
                } else {
                    writer.flush().await.unwrap();
                }
            }
            writer.shutdown().await.unwrap();
            writer
        });
        let mut reader = FrameReader::new(server, Framing::default());
        for frame in &expected {
            assert_eq!(reader.next().await.unwrap(), Some(&frame[..]));
        }
        assert_eq!(reader.next().await.unwrap(), None);
        drop(sending.await.unwrap());
    });
}

fn writing_that_is_dropped_at_every_poll_loses_and_repeats_nothing(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        socket2::SockRef::from(&client).set_send_buffer_size(4_096).unwrap();
        let sent = random_bytes(1 << 20, 3);
        let bytes = sent.clone();
        let sending = polyloop::spawn(async move {
            let mut rest = &bytes[..];
            loop {
                match poll_once(client.write_all_buf(&mut rest)).await {
                    Some(written) => break written.unwrap(),
                    None => polyloop::yield_now().await,
                }
            }
            assert!(rest.is_empty());
        });
        let mut received = Vec::new();
        copy(&server, &mut received).await.unwrap();
        assert!(received == sent, "{} bytes", received.len());
        sending.await.unwrap();
    });
}

fn reading_that_is_dropped_at_every_poll_loses_nothing(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        let sent = random_bytes(1 << 20, 4);
        let bytes = sent.clone();
        let sending = polyloop::spawn(async move { writer.write_all(&bytes).await.unwrap() });
        let mut received = vec![0; 1 << 20];
        let mut rest = &mut received[..];
        loop {
            match poll_once(reader.read_exact_buf(&mut rest)).await {
                Some(read) => break read.unwrap(),
                None => polyloop::yield_now().await,
            }
        }
        assert!(received == sent);
        sending.await.unwrap();
    });
}

fn temporary_file(bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!(
        "polyloop-{}-{:?}.data",
        std::process::id(),
        std::thread::current().id()
    ));
    fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file
}

fn a_file_is_sent_and_resumes_where_it_stopped(backend: Backend) {
    run_on(backend, async {
        let content = random_bytes(3 << 20, 5);
        let file = temporary_file(&content);
        let (client, server) = pair().await;
        let sending = polyloop::spawn(async move {
            let mut range = 1_000..3_000_000;
            loop {
                match poll_once(client.send_file(&file, &mut range)).await {
                    Some(sent) => break sent.unwrap(),
                    None => polyloop::yield_now().await,
                }
            }
            assert_eq!(range, 3_000_000..3_000_000);
        });
        let mut received = Vec::new();
        copy(&server, &mut received).await.unwrap();
        assert!(received == content[1_000..3_000_000], "{} bytes", received.len());
        sending.await.unwrap();
    });
}

fn a_file_that_is_too_short_is_an_error(backend: Backend) {
    run_on(backend, async {
        let file = temporary_file(b"short");
        let (client, server) = pair().await;
        let mut range = 2..100;
        let error = client.send_file(&file, &mut range).await.unwrap_err();
        assert_eq!((error.kind(), range), (ErrorKind::UnexpectedEof, 5..100));
        server.read_exact(&mut [0; 3]).await.unwrap();
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn splicing_moves_a_mebibyte(backend: Backend) {
    run_on(backend, async {
        let sent = random_bytes(1 << 20, 6);
        let (client, front) = pair().await;
        let (back, server) = pair().await;
        send(client, sent.clone());
        let splicing = polyloop::spawn(async move {
            polyloop::io::Splicer::new(&front, &back).unwrap().run().await.unwrap()
        });
        let mut received = Vec::new();
        copy(&server, &mut received).await.unwrap();
        assert!(received == sent);
        assert_eq!(splicing.await.unwrap(), 1 << 20);
    });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn a_splice_that_is_dropped_at_every_poll_loses_nothing(backend: Backend) {
    run_on(backend, async {
        let sent = random_bytes(1 << 20, 7);
        let (client, front) = pair().await;
        let (back, server) = UnixStream::pair().unwrap();
        send(client, sent.clone());
        let splicing = polyloop::spawn(async move {
            let mut splicer = polyloop::io::Splicer::new(&front, &back).unwrap();
            loop {
                if let Some(spliced) = poll_once(splicer.run()).await {
                    break assert_eq!(spliced.unwrap(), 1 << 20);
                }
                polyloop::yield_now().await;
            }
        });
        let mut received = Vec::new();
        copy(&server, &mut received).await.unwrap();
        assert!(received == sent);
        splicing.await.unwrap();
    });
}
