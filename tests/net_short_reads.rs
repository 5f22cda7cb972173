//! Whether a short read proves that nothing more is available depends on the kind of descriptor, not on the
//! type that wraps it. All data is read in any case.
#![cfg(any(target_os = "linux", target_os = "android"))]

mod common;

use std::io::{IoSliceMut, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use polyloop::net::{PipeReader, PipeWriter, TcpStream, pipe};
use polyloop::{Backend, sleep, timeout};
use socket2::{Domain, Socket, Type};

use common::run_on;

backends!(
    packets_of_a_pipe_are_read_one_after_another,
    lines_of_a_terminal_are_read_one_after_another,
    messages_of_a_non_stream_socket_are_read_one_after_another,
    a_writer_to_a_terminal_continues,
);

/// Reads data that was written in two parts, each of which ends a read.
async fn read_both(mut read: impl AsyncFnMut(&mut [u8]) -> std::io::Result<usize>) {
    let mut buf = [0; 64];
    for expected in ["one\n", "two\n"] {
        let n_bytes = timeout(Duration::from_secs(5), read(&mut buf)).await;
        let n_bytes = n_bytes.expect("the data is available and was not read").unwrap();
        assert_eq!(&buf[..n_bytes], expected.as_bytes());
    }
}

fn packets_of_a_pipe_are_read_one_after_another(backend: Backend) {
    run_on(backend, async {
        for is_vectored in [false, true] {
            let (reader, writer) = pipe().unwrap();
            let mut writer = writer.into_std().unwrap();
            fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
            let write = async {
                // The reader is waiting by then.
                sleep(Duration::from_millis(1)).await;
                writer.write_all(b"one\n").unwrap();
                writer.write_all(b"two\n").unwrap();
            };
            let read = read_both(async |buf: &mut [u8]| match is_vectored {
                false => reader.read(buf).await,
                true => reader.read_vectored(&mut [IoSliceMut::new(buf)]).await,
            });
            polyloop::join!(read, write);
        }
    });
}

fn lines_of_a_terminal_are_read_one_after_another(backend: Backend) {
    run_on(backend, async {
        let pty = openpty(None, None).unwrap();
        let reader = PipeReader::from_std(pty.slave).unwrap();
        let mut master = std::fs::File::from(pty.master);
        let write = async {
            sleep(Duration::from_millis(1)).await;
            master.write_all(b"one\ntwo\n").unwrap();
        };
        polyloop::join!(read_both(async |buf: &mut [u8]| reader.read(buf).await), write);
    });
}

fn messages_of_a_non_stream_socket_are_read_one_after_another(backend: Backend) {
    run_on(backend, async {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let stream = std::net::TcpStream::from(OwnedFd::from(one));
        let stream = TcpStream::from_std(stream).unwrap();
        let write = async {
            sleep(Duration::from_millis(1)).await;
            other.send(b"one\n").unwrap();
            other.send(b"two\n").unwrap();
        };
        polyloop::join!(read_both(async |buf: &mut [u8]| stream.read(buf).await), write);
    });
}

fn a_writer_to_a_terminal_continues(backend: Backend) {
    const N_BYTES: usize = 1 << 20;
    run_on(backend, async {
        let pty = openpty(None, None).unwrap();
        let writer = PipeWriter::from_std(pty.slave).unwrap();
        let reader = PipeReader::from_std(pty.master).unwrap();
        let read = async {
            let (mut n_bytes, mut buf) = (0, vec![0; 1_000]);
            while n_bytes < N_BYTES {
                n_bytes += reader.read(&mut buf).await.unwrap();
            }
        };
        let all = vec![b'x'; N_BYTES];
        let both = async { polyloop::join!(read, writer.write_all(&all)) };
        let (_, written) = timeout(Duration::from_secs(30), both).await.expect("it continues");
        written.unwrap();
    });
}
