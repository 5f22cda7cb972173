//! Pipes and FIFOs, and descriptors that cannot be awaited, on every backend.

mod common;

use std::fs::{self, File};
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use polyloop::Backend;
use polyloop::net::{AsyncFd, Direction, PipeReader, PipeWriter, pipe};

use common::run_on;

backends!(
    a_reader_waits_for_the_writer_and_gets_the_end,
    a_writer_waits_for_capacity,
    a_writer_gets_an_error_after_the_reader_has_closed,
    a_waiting_writer_gets_an_error_when_the_reader_closes,
    a_fifo_outlives_its_writers,
    a_fifo_without_a_reader_and_a_file_are_errors,
    the_output_of_a_child_is_read_as_it_comes,
    a_file_is_refused_with_a_remedy,
    an_unchecked_file_is_refused_when_it_is_awaited,
    the_standard_streams_are_refused,
    ends_convert_back_to_std,
);

fn fresh_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("polyloop-{}-{n}.fifo", std::process::id()))
}

async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn a_reader_waits_for_the_writer_and_gets_the_end(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        let reading = polyloop::spawn(async move {
            let (mut all, mut buf) = (Vec::new(), [0; 4]);
            loop {
                match reader.read(&mut buf).await.unwrap() {
                    0 => return all,
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        });
        for word in ["a ", "pipe ", "is ", "a stream"] {
            polyloop::yield_now().await;
            writer.write_all(word.as_bytes()).await.unwrap();
        }
        drop(writer);
        assert_eq!(reading.await.unwrap(), b"a pipe is a stream");
    });
}

fn a_writer_waits_for_capacity(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        let sent: Vec<u8> = (0..1_u32 << 20).map(|i| (i ^ (i >> 8)) as u8).collect();
        let expected = sent.clone();
        let writing = polyloop::spawn(async move { writer.write_all(&sent).await });
        let mut received = vec![0; expected.len()];
        reader.read_exact(&mut received).await.unwrap();
        assert!(received == expected);
        writing.await.unwrap().unwrap();
        assert_eq!(reader.read(&mut received).await.unwrap(), 0);
    });
}

fn a_writer_gets_an_error_after_the_reader_has_closed(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

fn a_waiting_writer_gets_an_error_when_the_reader_closes(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        let writing = polyloop::spawn(async move { writer.write_all(&vec![0; 1 << 20]).await });
        polyloop::yield_now().await;
        drop(reader);
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

fn make_fifo() -> PathBuf {
    let path = fresh_path();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

fn a_fifo_outlives_its_writers(backend: Backend) {
    run_on(backend, async {
        let path = make_fifo();
        let reader = PipeReader::open_fifo(&path).unwrap();
        let mut buf = [0; 8];
        assert!(poll_once(reader.read(&mut buf)).await.is_none());
        for word in ["one", "two"] {
            let writer = PipeWriter::open_fifo(&path).unwrap();
            writer.write_all(word.as_bytes()).await.unwrap();
            drop(writer);
            let n = reader.read(&mut buf).await.unwrap();
            assert_eq!(&buf[..n], word.as_bytes());
            assert!(
                poll_once(reader.read(&mut buf)).await.is_none(),
                "it returned the end of the stream"
            );
        }
        fs::remove_file(&path).unwrap();
    });
}

fn a_fifo_without_a_reader_and_a_file_are_errors(backend: Backend) {
    run_on(backend, async {
        let path = make_fifo();
        let error = PipeWriter::open_fifo(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        for error in
            [PipeReader::open_fifo(&path).unwrap_err(), PipeWriter::open_fifo(&path).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with("is not a FIFO"), "{error}");
        }
        fs::remove_file(&path).unwrap();
    });
}

fn the_output_of_a_child_is_read_as_it_comes(backend: Backend) {
    run_on(backend, async {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let writer = PipeWriter::from_std(child.stdin.take().unwrap()).unwrap();
        let reader = PipeReader::from_std(child.stdout.take().unwrap()).unwrap();
        let mut buf = [0; 16];
        for word in ["one", "another"] {
            writer.write_all(word.as_bytes()).await.unwrap();
            let n = reader.read(&mut buf).await.unwrap();
            assert_eq!(&buf[..n], word.as_bytes());
        }
        drop(writer);
        assert_eq!(reader.read(&mut buf).await.unwrap(), 0);
        assert!(child.wait().unwrap().success());
    });
}

fn a_file_is_refused_with_a_remedy(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        fs::write(&path, "text").unwrap();
        for error in [
            AsyncFd::new(File::open(&path).unwrap()).unwrap_err(),
            AsyncFd::new(File::open(std::env::temp_dir()).unwrap()).unwrap_err(),
            PipeReader::from_std(File::open(&path).unwrap()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("spawn_blocking"), "{error}");
        }
        fs::remove_file(&path).unwrap();
    });
}

fn an_unchecked_file_is_refused_when_it_is_awaited(backend: Backend) {
    run_on(backend, async {
        let path = fresh_path();
        fs::write(&path, "text").unwrap();
        let file = AsyncFd::from_nonblocking(File::open(&path).unwrap());
        for _ in 0..100 {
            let error = file.ready(Direction::Read).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains("spawn_blocking"), "{error}");
        }
        assert_eq!(polyloop::runtime::metrics().sources, 0);
        fs::remove_file(&path).unwrap();
    });
}

fn the_standard_streams_are_refused(backend: Backend) {
    run_on(backend, async {
        let error = AsyncFd::new(std::io::stdin()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("standard stream"), "{error}");
    });
}

fn ends_convert_back_to_std(backend: Backend) {
    run_on(backend, async {
        let (reader, writer) = pipe().unwrap();
        assert!(poll_once(reader.read(&mut [0])).await.is_none());
        let (mut reader, mut writer) = (reader.into_std().unwrap(), writer.into_std().unwrap());
        // The read waits, or it would return an error.
        let reading = std::thread::spawn(move || {
            let mut buf = [0; 2];
            reader.read_exact(&mut buf).map(|()| buf)
        });
        writer.write_all(b"ok").unwrap();
        assert_eq!(reading.join().unwrap().unwrap(), *b"ok");
    });
}
