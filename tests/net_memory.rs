//! Aim: lines, frames and copies hold only buffered data, whatever has passed through them.
//!
//! The tests of this file measure the process, so they form one test.

use std::alloc::System;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use polyloop::io::{BufReader, Copier, FrameReader, FrameWriter, Framing, Write};
use polyloop::net::UnixStream;
use polyloop::{sleep, spawn, timeout};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MEBIBYTE: usize = 1 << 20;

/// Returns the bytes that are allocated at present.
fn bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn buffers_shrink_with_the_load() {
    polyloop::run(async {
        idle_connections_hold_no_buffers().await;
        idle_readers_of_lines_hold_no_buffers().await;
        idle_copies_hold_no_buffers().await;
        lines_that_are_discarded_hold_no_buffers().await;
        a_few_bytes_of_a_message_take_no_large_buffer().await;
        large_frames_in_a_steady_exchange_allocate_nothing().await;
        a_writer_holds_what_is_queued_and_not_what_it_ever_sent().await;
    })
    .unwrap();
}

async fn idle_connections_hold_no_buffers() {
    let frame = vec![7; MEBIBYTE];
    let before = bytes();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let (client, server) = UnixStream::pair().unwrap();
        let echo = spawn(async move {
            let (reader, writer) = server.split();
            let mut reader = FrameReader::new(reader, Framing::default());
            let mut writer = FrameWriter::new(writer, Framing::default());
            while let Some(frame) = reader.next().await.unwrap() {
                writer.queue(frame).unwrap();
                writer.flush().await.unwrap();
            }
        });
        connections.push((client, echo));
    }
    for (client, _) in &connections {
        let send = async {
            client.write_all(&(MEBIBYTE as u32).to_be_bytes()).await.unwrap();
            client.write_all(&frame).await.unwrap();
        };
        let receive = async {
            let mut frames = FrameReader::new(client, Framing::default());
            assert_eq!(frames.next().await.unwrap(), Some(&frame[..]));
        };
        polyloop::join!(send, receive);
    }
    sleep(Duration::from_millis(1)).await;
    let held = bytes().saturating_sub(before);
    println!("after a frame of a mebibyte each, 100 connections hold {held} bytes");
    // Nearly all of that is the thread's reserve of buffers.
    assert!(held < 5 * MEBIBYTE, "{held} bytes");
}

async fn idle_readers_of_lines_hold_no_buffers() {
    let before = bytes();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let (client, server) = UnixStream::pair().unwrap();
        let task = spawn(async move {
            let mut reader = BufReader::new(server);
            while reader.next_line().await.unwrap().is_some() {}
        });
        client.write_all(&[b'x'; 20_000]).await.unwrap();
        client.write_all(b"\n").await.unwrap();
        connections.push((client, task));
        sleep(Duration::from_micros(1)).await;
    }
    sleep(Duration::from_millis(1)).await;
    let held = bytes().saturating_sub(before);
    assert!(held < 100 * 2_048, "{held} bytes");
}

async fn idle_copies_hold_no_buffers() {
    let before = bytes();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let (client, server) = UnixStream::pair().unwrap();
        let task = spawn(async move { Copier::new(&server, &server).run().await });
        client.write_all(b"hello").await.unwrap();
        client.read_exact(&mut [0; 5]).await.unwrap();
        connections.push((client, task));
    }
    sleep(Duration::from_millis(1)).await;
    let held = bytes().saturating_sub(before);
    assert!(held < 100 * 2_048, "{held} bytes");
}

async fn lines_that_are_discarded_hold_no_buffers() {
    let before = bytes();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let (client, server) = UnixStream::pair().unwrap();
        let task = spawn(async move {
            let mut reader = BufReader::new(server);
            assert!(reader.next_line().await.is_err());
            reader.next_line().await.map(drop)
        });
        client.write_all(&vec![b'x'; 2 * MEBIBYTE]).await.unwrap();
        connections.push((client, task));
    }
    sleep(Duration::from_millis(1)).await;
    let held = bytes().saturating_sub(before);
    println!("in the middle of a line that is discarded, 20 connections hold {held} bytes");
    // Most of that is the thread's reserve of buffers.
    assert!(held < 5 * MEBIBYTE, "{held} bytes");
    for (client, task) in connections {
        drop(client);
        task.await.unwrap().unwrap();
    }
}

async fn a_few_bytes_of_a_message_take_no_large_buffer() {
    let before = bytes();
    let mut connections = Vec::new();
    for _ in 0..20 {
        let (client, server) = UnixStream::pair().unwrap();
        let mut reader = FrameReader::new(server, Framing::default());
        let mut writer = FrameWriter::new(client, Framing::default());
        writer.queue(&vec![7; MEBIBYTE]).unwrap();
        let (sent, frame) = polyloop::join!(writer.flush(), reader.next());
        sent.unwrap();
        assert_eq!(frame.unwrap().unwrap().len(), MEBIBYTE);
        let (client, _) = writer.into_parts();
        client.write_all(&[0]).await.unwrap();
        timeout(Duration::from_millis(1), reader.next()).await.unwrap_err();
        connections.push((client, reader));
    }
    let held = bytes().saturating_sub(before);
    assert!(held < 20 * 10_000 + 4 * MEBIBYTE, "{held} bytes");
}

async fn large_frames_in_a_steady_exchange_allocate_nothing() {
    let (client, server) = UnixStream::pair().unwrap();
    let echo = spawn(async move {
        let (reader, writer) = server.split();
        let mut reader = FrameReader::new(reader, Framing::default());
        let mut writer = FrameWriter::new(writer, Framing::default());
        while let Some(frame) = reader.next().await.unwrap() {
            writer.queue(frame).unwrap();
            writer.flush().await.unwrap();
        }
    });
    let frame = vec![7; MEBIBYTE];
    let (reader, writer) = client.split();
    let mut reader = FrameReader::new(reader, Framing::default());
    let mut writer = FrameWriter::new(writer, Framing::default());
    let mut before = ALLOCATOR.stats();
    for i in 0..60 {
        if i == 10 {
            before = ALLOCATOR.stats();
        }
        writer.queue(&frame).unwrap();
        let (sent, echoed) = polyloop::join!(writer.flush(), reader.next());
        sent.unwrap();
        assert_eq!(echoed.unwrap(), Some(&frame[..]));
    }
    let during = ALLOCATOR.stats() - before;
    println!("50 frames of a mebibyte, there and back: {during:?}");
    assert!(during.bytes_allocated < MEBIBYTE, "{during:?}");
    echo.abort();
}

async fn a_writer_holds_what_is_queued_and_not_what_it_ever_sent() {
    /// Accepts a little more than a frame at every other poll.
    struct Trickle {
        is_open: bool,
    }

    impl Write for Trickle {
        async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.is_open = !self.is_open;
            if !self.is_open {
                pending::<()>().await;
            }
            Ok(buf.len().min(4_101))
        }

        async fn shutdown(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut writer = FrameWriter::new(Trickle { is_open: false }, Framing::default());
    let frame = vec![7; 4_096];
    let (mut most, mut n_bytes) = (0, 0);
    let before = bytes();
    for i in 0..16_000 {
        writer.queue(&frame).unwrap();
        n_bytes += frame.len() + 4;
        if i >= 20 {
            let queued = writer.queued_bytes();
            let mut flush = pin!(writer.flush());
            poll_fn(|cx| Poll::Ready(flush.as_mut().poll(cx).is_ready())).await;
            assert!(queued < 90_000);
        }
        most = most.max(bytes().saturating_sub(before));
    }
    assert!(writer.queued_bytes() > 0);
    println!("80 KiB queued, {n_bytes} bytes sent: {most} bytes at most");
    assert!(most < 512 * 1_024, "{most} bytes");
}
