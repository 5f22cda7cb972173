//! Reads and writes on every kind of stream.

use std::cell::RefCell;
use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net as unix;
use std::sync::LazyLock;

use polyloop::net::{
    AsyncFd, Direction, OwnedReadHalf, OwnedWriteHalf, PipeReader, PipeWriter, TcpStream,
    UnixStream,
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::dropper::{Dropper, cases};

/// The bytes that are sent to readers. None is zero, so that the filled part of a buffer is visible.
const SENT: &[u8] = b"0123456789abcdefg";

pub(crate) fn tcp() -> (TcpStream, net::TcpStream) {
    tcp_with(|_| {})
}

fn tcp_with(set: impl FnOnce(&Socket)) -> (TcpStream, net::TcpStream) {
    let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    set(&peer);
    peer.connect(&listener.local_addr().unwrap().into()).unwrap();
    peer.set_tcp_nodelay(true).unwrap();
    let (ours, _) = listener.accept().unwrap();
    (TcpStream::from_std(ours).unwrap(), peer.into())
}

pub(crate) fn unix() -> (UnixStream, unix::UnixStream) {
    let (ours, peer) = unix::UnixStream::pair().unwrap();
    (UnixStream::from_std(ours).unwrap(), peer)
}

pub(crate) fn pipe_to_read() -> (PipeReader, std::io::PipeWriter) {
    let (ours, peer) = std::io::pipe().unwrap();
    (PipeReader::from_std(ours).unwrap(), peer)
}

fn pipe_to_write() -> (PipeWriter, std::io::PipeReader) {
    let (peer, ours) = std::io::pipe().unwrap();
    (PipeWriter::from_std(ours).unwrap(), peer)
}

/// Sends a piece of `bytes` at each step, and then the end.
pub(crate) fn feed(dropper: &Dropper, peer: impl Write, bytes: &[u8]) -> impl FnMut() {
    let mut pieces = bytes.chunks(dropper.piece_bytes());
    let mut peer = Some(peer);
    move || match (pieces.next(), &mut peer) {
        (Some(piece), Some(peer)) => peer.write_all(piece).unwrap(),
        _ => peer = None,
    }
}

/// Returns the bytes at a position of the stream.
fn pattern(from: usize, n_bytes: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..251).cycle().take(8 << 20).collect());
    &BYTES[from % 251..][..n_bytes]
}

/// The peer of a writer, which reads a little at each step.
pub(crate) struct Sink<R> {
    peer: RefCell<R>,
    received: RefCell<Vec<u8>>,
}

impl<R: Read + AsFd> Sink<R> {
    pub(crate) fn new(peer: R) -> Sink<R> {
        SockRef::from(&peer).set_nonblocking(true).unwrap();
        Sink { peer: RefCell::new(peer), received: RefCell::default() }
    }

    pub(crate) fn step(&self) {
        let mut buf = [0; 16 * 1_024];
        match self.peer.borrow_mut().read(&mut buf) {
            Ok(n_bytes) => self.received.borrow_mut().extend_from_slice(&buf[..n_bytes]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }

    /// Shuts down the direction back.
    pub(crate) fn end(&self) {
        SockRef::from(&*self.peer.borrow()).shutdown(net::Shutdown::Write).unwrap();
    }

    /// Reads to the end, and returns all bytes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let (mut peer, mut received) = (self.peer.into_inner(), self.received.into_inner());
        SockRef::from(&peer).set_nonblocking(false).unwrap();
        peer.read_to_end(&mut received).unwrap();
        received
    }
}

/// Writes until the buffer is full; returns the number of bytes.
fn fill(mut try_write: impl FnMut(&[u8]) -> std::io::Result<usize>) -> usize {
    let mut n_filled = 0;
    loop {
        match try_write(pattern(n_filled, 4_096)) {
            Ok(n_bytes) => n_filled += n_bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return n_filled,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The size of one write: more than the buffer holds.
const WRITTEN_BYTES: usize = 30_000;

/// Defines the cases of one kind of readable stream.
macro_rules! readers {
    ($kind:ident, $open:expr, |$owner:ident| $reader:expr) => {
        pub(crate) mod $kind {
            use super::*;

            cases! {
                a_dropped_read_has_taken_no_byte: "reading!::read";
                a_dropped_vectored_read_has_taken_no_byte: "reading!::read_vectored";
                what_a_dropped_read_exact_has_read_is_in_the_buffer: "reading!::read_exact";
                a_dropped_read_exact_buf_goes_on: "reading!::read_exact_buf";
                a_dropped_wait_for_data_loses_nothing: "reading!::readable";
            }

            async fn a_dropped_read_has_taken_no_byte(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = Vec::new();
                loop {
                    let mut buf = [0; 2];
                    let read = dropper.again(async || reader.read(&mut buf).await, &mut peer_step);
                    let n_bytes = read.await.unwrap();
                    received.extend_from_slice(&buf[..n_bytes]);
                    if n_bytes == 0 {
                        break;
                    }
                }
                assert_eq!(received, SENT);
            }

            async fn a_dropped_vectored_read_has_taken_no_byte(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = Vec::new();
                loop {
                    let (mut one, mut two) = ([0; 1], [0; 1]);
                    let read = dropper.again(
                        async || {
                            let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
                            reader.read_vectored(bufs).await
                        },
                        &mut peer_step,
                    );
                    let n_bytes = read.await.unwrap();
                    received.extend_from_slice(&[one, two].concat()[..n_bytes]);
                    if n_bytes == 0 {
                        break;
                    }
                }
                assert_eq!(received, SENT);
            }

            async fn what_a_dropped_read_exact_has_read_is_in_the_buffer(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = Vec::new();
                while received.len() < SENT.len() {
                    let mut buf = vec![0; SENT.len() - received.len()];
                    let read = dropper.once(reader.read_exact(&mut buf), &mut peer_step).await;
                    assert!(read.is_none_or(|read| read.is_ok()));
                    received.extend(buf.into_iter().take_while(|byte| *byte != 0));
                }
                assert_eq!(received, SENT);
            }

            async fn a_dropped_read_exact_buf_goes_on(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = vec![0; SENT.len()];
                let mut rest = &mut received[..];
                let read = async || reader.read_exact_buf(&mut rest).await;
                dropper.again(read, &mut peer_step).await.unwrap();
                assert_eq!(received, SENT);
            }

            async fn a_dropped_wait_for_data_loses_nothing(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = Vec::new();
                loop {
                    dropper.again(async || reader.readable().await, &mut peer_step).await.unwrap();
                    let mut buf = [0; 2];
                    match reader.try_read(&mut buf) {
                        Ok(0) => break,
                        Ok(n_bytes) => received.extend_from_slice(&buf[..n_bytes]),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                assert_eq!(received, SENT);
            }
        }
    };
}

/// Defines the cases of one kind of stream with peek.
macro_rules! peekers {
    ($kind:ident, $open:expr, |$owner:ident| $reader:expr) => {
        pub(crate) mod $kind {
            use super::*;

            cases! {
                a_dropped_peek_loses_nothing: "peeking!::peek";
            }

            async fn a_dropped_peek_loses_nothing(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let (reader, mut peer_step) = ($reader, feed(dropper, peer, SENT));
                let mut received = Vec::new();
                loop {
                    let mut buf = [0; 2];
                    let peek = dropper.again(async || reader.peek(&mut buf).await, &mut peer_step);
                    let n_bytes = peek.await.unwrap();
                    let mut same = vec![0; n_bytes];
                    reader.read_exact(&mut same).await.unwrap();
                    assert_eq!(same, buf[..n_bytes]);
                    received.extend(same);
                    if n_bytes == 0 {
                        break;
                    }
                }
                assert_eq!(received, SENT);
            }
        }
    };
}

/// Defines the cases of one kind of writable stream.
macro_rules! writers {
    ($kind:ident, $open:expr, |$owner:ident| $writer:expr) => {
        pub(crate) mod $kind {
            use super::*;

            cases! {
                a_dropped_write_has_written_nothing: "writing!::write";
                a_dropped_vectored_write_has_written_nothing: "writing!::write_vectored";
                a_dropped_write_all_has_written_a_part: "writing!::write_all";
                a_dropped_vectored_write_all_has_written_a_part: "writing!::write_all_vectored";
                a_dropped_write_all_buf_goes_on: "writing!::write_all_buf";
                a_dropped_wait_for_room_loses_nothing: "writing!::writable";
            }

            async fn a_dropped_write_has_written_nothing(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let n_written = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let bytes = pattern(n_filled, WRITTEN_BYTES);
                    let write = dropper.again(async || writer.write(bytes).await, || sink.step());
                    n_filled + write.await.unwrap()
                };
                drop($owner);
                assert!(sink.finish() == pattern(0, n_written));
            }

            async fn a_dropped_vectored_write_has_written_nothing(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let n_written = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let bytes = pattern(n_filled, WRITTEN_BYTES);
                    let (one, two) = bytes.split_at(1_000);
                    let bufs = [IoSlice::new(one), IoSlice::new(two)];
                    let write = async || writer.write_vectored(&bufs).await;
                    n_filled + dropper.again(write, || sink.step()).await.unwrap()
                };
                drop($owner);
                assert!(sink.finish() == pattern(0, n_written));
            }

            async fn a_dropped_write_all_has_written_a_part(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let (n_filled, is_done) = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let bytes = pattern(n_filled, WRITTEN_BYTES);
                    let written = dropper.once(writer.write_all(bytes), || sink.step()).await;
                    (n_filled, written.is_some_and(|written| written.is_ok()))
                };
                drop($owner);
                check_part(&sink.finish(), n_filled, is_done);
            }

            async fn a_dropped_vectored_write_all_has_written_a_part(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let (n_filled, is_done) = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let bytes = pattern(n_filled, WRITTEN_BYTES);
                    let (one, two) = bytes.split_at(10_000);
                    let bufs = &mut [IoSlice::new(one), IoSlice::new(two)];
                    let write = writer.write_all_vectored(bufs);
                    let written = dropper.once(write, || sink.step()).await;
                    (n_filled, written.is_some_and(|written| written.is_ok()))
                };
                drop($owner);
                check_part(&sink.finish(), n_filled, is_done);
            }

            async fn a_dropped_write_all_buf_goes_on(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let n_filled = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let bytes = pattern(n_filled, WRITTEN_BYTES);
                    let mut rest = bytes;
                    let write = async || writer.write_all_buf(&mut rest).await;
                    dropper.again(write, || sink.step()).await.unwrap();
                    n_filled
                };
                drop($owner);
                check_part(&sink.finish(), n_filled, true);
            }

            async fn a_dropped_wait_for_room_loses_nothing(dropper: &Dropper) {
                let ($owner, peer) = $open;
                let sink = Sink::new(peer);
                let n_written = {
                    let writer = $writer;
                    let n_filled = fill(|buf| writer.try_write(buf));
                    let n_bytes = loop {
                        let writable = async || writer.writable().await;
                        dropper.again(writable, || sink.step()).await.unwrap();
                        match writer.try_write(pattern(n_filled, WRITTEN_BYTES)) {
                            Ok(n_bytes) => break n_bytes,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                        }
                    };
                    n_filled + n_bytes
                };
                drop($owner);
                assert!(sink.finish() == pattern(0, n_written));
            }
        }
    };
}

/// Checks that a part of what was written after `n_filled` bytes has arrived, or all of it.
fn check_part(received: &[u8], n_filled: usize, is_done: bool) {
    let n_all = n_filled + WRITTEN_BYTES;
    assert!(received == pattern(0, received.len()));
    assert!((n_filled..=n_all).contains(&received.len()), "{} bytes", received.len());
    assert!(!is_done || received.len() == n_all, "{} of {n_all} bytes", received.len());
}

fn owned_halves() -> ((OwnedReadHalf, OwnedWriteHalf), net::TcpStream) {
    let (stream, peer) = tcp();
    (stream.into_split(), peer)
}

/// Makes the buffers of both sides small.
pub(crate) fn small_tcp() -> (TcpStream, net::TcpStream) {
    small(tcp_with(|peer| peer.set_recv_buffer_size(4_096).unwrap()))
}

fn small_owned_halves() -> ((OwnedReadHalf, OwnedWriteHalf), net::TcpStream) {
    let (stream, peer) = small_tcp();
    (stream.into_split(), peer)
}

/// Makes the send buffer small.
fn small<S: AsFd, R>((stream, peer): (S, R)) -> (S, R) {
    SockRef::from(&stream).set_send_buffer_size(4_096).unwrap();
    (stream, peer)
}

readers!(read_tcp, tcp(), |stream| &stream);
readers!(read_unix, unix(), |stream| &stream);
readers!(read_pipe, pipe_to_read(), |reader| &reader);
readers!(read_half, tcp(), |stream| stream.split().0);
readers!(read_owned_half, owned_halves(), |halves| &halves.0);
peekers!(peek_tcp, tcp(), |stream| &stream);
peekers!(peek_unix, unix(), |stream| &stream);
peekers!(peek_half, unix(), |stream| stream.split().0);
writers!(write_tcp, small_tcp(), |stream| &stream);
writers!(write_unix, small(unix()), |stream| &stream);
writers!(write_pipe, pipe_to_write(), |writer| &writer);
writers!(write_owned_half, small_owned_halves(), |halves| &halves.1);
writers!(write_half, small(unix()), |stream| stream.split().1);

cases! {
    a_dropped_operation_on_a_descriptor_has_not_happened: "AsyncFd::async_io";
    a_dropped_wait_for_a_descriptor_loses_nothing: "AsyncFd::ready";
    a_dropped_wait_for_a_direction_loses_nothing: "TcpStream::ready", "UnixStream::ready";
}

fn raw() -> (AsyncFd<unix::UnixStream>, unix::UnixStream) {
    let (ours, peer) = unix::UnixStream::pair().unwrap();
    (AsyncFd::new(ours).unwrap(), peer)
}

async fn a_dropped_operation_on_a_descriptor_has_not_happened(dropper: &Dropper) {
    let (fd, peer) = raw();
    let mut peer_step = feed(dropper, peer, SENT);
    let mut received = Vec::new();
    loop {
        let mut buf = [0; 2];
        let read = async || {
            fd.async_io(Direction::Read, |mut stream: &unix::UnixStream| stream.read(&mut buf))
                .await
        };
        let n_bytes = dropper.again(read, &mut peer_step).await.unwrap();
        received.extend_from_slice(&buf[..n_bytes]);
        if n_bytes == 0 {
            break;
        }
    }
    assert_eq!(received, SENT);
}

async fn a_dropped_wait_for_a_descriptor_loses_nothing(dropper: &Dropper) {
    let (fd, peer) = raw();
    let mut peer_step = feed(dropper, peer, SENT);
    let mut received = Vec::new();
    loop {
        dropper.again(async || fd.ready(Direction::Read).await, &mut peer_step).await.unwrap();
        let mut buf = [0; 2];
        match fd.try_io(Direction::Read, |mut stream: &unix::UnixStream| stream.read(&mut buf)) {
            Ok(0) => break,
            Ok(n_bytes) => received.extend_from_slice(&buf[..n_bytes]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(received, SENT);
}

async fn a_dropped_wait_for_a_direction_loses_nothing(dropper: &Dropper) {
    let ((tcp, tcp_peer), (unix, unix_peer)) = (tcp(), unix());
    let mut peer_step = feed(dropper, tcp_peer, SENT);
    // Waits until data can be read: readiness may be reported too often, but not too rarely.
    while tcp.try_read(&mut [0]).is_err() {
        dropper.again(async || tcp.ready(Direction::Read).await, &mut peer_step).await.unwrap();
    }
    let mut peer_step = feed(dropper, unix_peer, SENT);
    while unix.try_read(&mut [0]).is_err() {
        dropper.again(async || unix.ready(Direction::Read).await, &mut peer_step).await.unwrap();
    }
}
