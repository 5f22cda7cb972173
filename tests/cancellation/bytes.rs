//! Lines, frames and copies: the next call resumes where the last one was dropped.

use std::fs::File;
use std::future::poll_fn;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net as unix;
use std::pin::pin;

use futures_core::Stream;
use polyloop::io::{
    BufReader, Copier, FrameReader, FrameWriter, Framing, Read, Write, copy, copy_bidirectional,
};
use polyloop::net::UnixStream;

use crate::dropper::{Dropper, cases};
use crate::streams::{Sink, feed, pipe_to_read, small_tcp, unix};

cases! {
    dropped_searches_lose_no_byte: "BufReader::read_until", "BufReader::next_line",
        "BufReader::fill_buf", "BufReader::fill_to";
    a_dropped_wait_for_a_line_of_the_stream_loses_none: "Lines as Stream", "Split as Stream";
    a_dropped_wait_for_a_frame_loses_none: "FrameReader::next";
    a_dropped_flush_resumes_in_the_middle_of_a_frame: "FrameWriter::flush", "FrameWriter::shutdown";
    a_dropped_copy_of_a_copier_resumes: "Copier::run";
    a_dropped_copy_has_written_what_it_read_but_for_one_piece: "copy", "copy_bidirectional";
    dropped_operations_of_the_traits_have_not_happened: "Read::read", "Read::readable",
        "Write::write", "Write::shutdown";
}

const TEXT: &[u8] = b"one\ntwo\r\n\nfour;five\nsix";

async fn dropped_searches_lose_no_byte(dropper: &Dropper) {
    let (reader, peer) = pipe_to_read();
    let (mut reader, mut peer_step) = (BufReader::new(reader), feed(dropper, peer, TEXT));
    for expected in ["one", "two", ""] {
        let line = async || reader.next_line().await.unwrap().map(str::to_owned);
        assert_eq!(dropper.again(line, &mut peer_step).await.as_deref(), Some(expected));
    }
    let part = async || reader.read_until(b';').await.unwrap().map(<[u8]>::to_vec);
    assert_eq!(dropper.again(part, &mut peer_step).await.as_deref(), Some(&b"four;"[..]));
    assert!(dropper.again(async || reader.fill_to(7).await, &mut peer_step).await.unwrap());
    assert_eq!(&reader.buffer()[..7], b"five\nsi");
    reader.consume(reader.buffer().len());
    let mut n_left = 0;
    loop {
        let fill = async || reader.fill_buf().await.unwrap().len();
        match dropper.again(fill, &mut peer_step).await {
            0 => break,
            n_bytes => n_left += n_bytes,
        }
        reader.consume(reader.buffer().len());
    }
    assert!(n_left <= 1, "{n_left} bytes were repeated");
}

async fn a_dropped_wait_for_a_line_of_the_stream_loses_none(dropper: &Dropper) {
    let (reader, peer) = pipe_to_read();
    let (mut reader, mut peer_step) = (BufReader::new(reader), feed(dropper, peer, TEXT));
    let mut seen = Vec::new();
    {
        let mut lines = pin!(reader.lines());
        for _ in 0..3 {
            let next = async || poll_fn(|cx| lines.as_mut().poll_next(cx)).await;
            seen.push(dropper.again(next, &mut peer_step).await.unwrap().unwrap());
        }
    }
    let mut parts = pin!(reader.split(b';'));
    loop {
        let next = async || poll_fn(|cx| parts.as_mut().poll_next(cx)).await;
        match dropper.again(next, &mut peer_step).await {
            Some(part) => seen.push(String::from_utf8(part.unwrap()).unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, ["one", "two", "", "four", "five\nsix"]);
}

async fn a_dropped_wait_for_a_frame_loses_none(dropper: &Dropper) {
    let (reader, peer) = unix();
    let mut reader = FrameReader::new(reader, Framing::big_endian(2));
    let mut peer_step = feed(dropper, peer, b"\0\x03abc\0\0\0\x05defgh");
    let mut frames = Vec::new();
    loop {
        let next = async || reader.next().await.unwrap().map(<[u8]>::to_vec);
        match dropper.again(next, &mut peer_step).await {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    assert_eq!(frames, [&b"abc"[..], b"", b"defgh"]);
}

/// Connects a stream with small buffers to one that is read in steps.
fn narrow() -> (UnixStream, Sink<unix::UnixStream>) {
    let (stream, peer) = unix();
    socket2::SockRef::from(&stream).set_send_buffer_size(4_096).unwrap();
    (stream, Sink::new(peer))
}

async fn a_dropped_flush_resumes_in_the_middle_of_a_frame(dropper: &Dropper) {
    let (writer, sink) = narrow();
    let mut writer = FrameWriter::new(writer, Framing::big_endian(2));
    let mut expected = Vec::new();
    for frame in [vec![1; 10_000], vec![], vec![2; 20_000]] {
        writer.queue(&frame).unwrap();
        expected.extend((frame.len() as u16).to_be_bytes());
        expected.extend(frame);
    }
    dropper.again(async || writer.flush().await, || sink.step()).await.unwrap();
    writer.queue(b"last").unwrap();
    expected.extend(b"\0\x04last");
    dropper.again(async || writer.shutdown().await, || sink.step()).await.unwrap();
    assert!(sink.finish() == expected);
}

async fn a_dropped_copy_of_a_copier_resumes(dropper: &Dropper) {
    let (reader, peer) = unix();
    let (writer, sink) = narrow();
    let bytes: Vec<u8> = (0..251).cycle().take(20_000).collect();
    let mut pieces = bytes.chunks(7_000);
    let mut peer = Some(peer);
    let mut copier = Copier::new(reader, writer);
    let peer_step = || {
        match (pieces.next(), &mut peer) {
            (Some(piece), Some(peer)) => peer.write_all(piece).unwrap(),
            _ => peer = None,
        }
        sink.step();
    };
    let n_bytes = dropper.again(async || copier.run().await, peer_step).await.unwrap();
    assert_eq!((n_bytes, copier.bytes_written()), (20_000, 20_000));
    drop(copier);
    assert!(sink.finish() == bytes);
}

async fn a_dropped_copy_has_written_what_it_read_but_for_one_piece(dropper: &Dropper) {
    let (reader, peer) = unix();
    let (writer, sink) = unix();
    let (mut peer_step, sink) = (feed(dropper, peer, TEXT), Sink::new(sink));
    let copied = dropper.once(copy(&reader, &writer), &mut peer_step).await;
    drop(writer);
    check_copy(&sink.finish(), copied.map(Result::unwrap));

    let (a, peer) = unix();
    let (b, sink) = unix();
    // It stays open for the answer.
    let half = HalfClose(peer.try_clone().unwrap());
    let (mut peer_step, sink) = (feed(dropper, half, TEXT), Sink::new(sink));
    // The answer is empty and complete from the start.
    sink.end();
    let copied = dropper.once(copy_bidirectional(&a, &b), &mut peer_step).await;
    drop(b);
    check_copy(&sink.finish(), copied.map(|copied| copied.unwrap().0));
}

/// Ends the stream when it is dropped.
struct HalfClose(unix::UnixStream);

impl Drop for HalfClose {
    fn drop(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

impl std::io::Write for HalfClose {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Checks that the received bytes are a prefix of the sent ones, and all of them if the copy has finished.
fn check_copy(received: &[u8], copied: Option<u64>) {
    assert!(TEXT.starts_with(received), "{received:?}");
    if let Some(n_bytes) = copied {
        assert_eq!((n_bytes, received.len()), (TEXT.len() as u64, TEXT.len()));
    }
}

async fn dropped_operations_of_the_traits_have_not_happened(dropper: &Dropper) {
    let (mut reader, peer) = unix();
    let (mut writer, sink) = narrow();
    let mut peer_step = feed(dropper, peer, TEXT);
    let mut received = Vec::new();
    loop {
        let mut buf = [0; 2];
        let readable = async || Read::readable(&mut reader).await;
        dropper.again(readable, &mut peer_step).await.unwrap();
        let read = async || Read::read(&mut reader, &mut buf).await;
        match dropper.again(read, &mut peer_step).await.unwrap() {
            0 => break,
            n_bytes => received.extend_from_slice(&buf[..n_bytes]),
        }
    }
    assert_eq!(received, TEXT);
    let mut n_written = 0;
    while n_written < 20_000 {
        let rest = vec![7; 20_000 - n_written];
        let write = async || Write::write(&mut writer, &rest).await;
        n_written += dropper.again(write, || sink.step()).await.unwrap();
    }
    dropper.again(async || Write::shutdown(&mut writer).await, || {}).await.unwrap();
    assert_eq!(sink.finish(), vec![7; 20_000]);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) mod linux {
    use polyloop::io::Splicer;

    use super::*;

    cases! {
        a_dropped_splice_goes_on: "Splicer::run";
    }

    async fn a_dropped_splice_goes_on(dropper: &Dropper) {
        let (reader, peer) = unix();
        let (writer, sink) = narrow();
        let mut peer_step = feed(dropper, peer, TEXT);
        {
            let mut splicer = Splicer::new(&reader, &writer).unwrap();
            let step = || {
                peer_step();
                // A single byte occupies as much of the buffer as many.
                sink.step();
            };
            let spliced = dropper.again(async || splicer.run().await, step).await.unwrap();
            assert_eq!((spliced, splicer.bytes_written()), (TEXT.len() as u64, TEXT.len() as u64));
        }
        drop(writer);
        assert_eq!(sink.finish(), TEXT);
    }
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_vendor = "apple"
))]
pub(crate) mod files {
    use super::*;

    cases! {
        a_dropped_send_of_a_file_goes_on: "TcpStream::send_file";
    }

    async fn a_dropped_send_of_a_file_goes_on(dropper: &Dropper) {
        let bytes: Vec<u8> = (0..251).cycle().take(50_000).collect();
        let path = crate::sockets::fresh_path();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (stream, peer) = small_tcp();
        let sink = Sink::new(peer);
        let mut range = 10..40_000;
        let send = async || stream.send_file(&file, &mut range).await;
        dropper.again(send, || sink.step()).await.unwrap();
        assert_eq!(range, 40_000..40_000);
        drop(stream);
        assert!(sink.finish() == bytes[10..40_000]);
    }
}
