//! A dropped future leaves nothing behind.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use polyloop::Backend;
use polyloop::net::{TcpListener, TcpStream};

use crate::common::run_on;

crate::backends!(
    a_dropped_read_has_taken_no_byte,
    a_dropped_accept_has_taken_no_connection,
    a_dropped_connect_leaves_no_descriptor_registered,
    a_dropped_wait_leaves_no_waker_behind,
    aborting_a_task_closes_its_connection,
    a_timeout_around_a_read_leaves_the_stream_usable,
);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Polls `future` once and drops it. Returns the output if it was ready.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn a_dropped_read_has_taken_no_byte(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let message: Vec<u8> = (0..=255).collect();
        let sending = message.clone();
        let sender = polyloop::spawn(async move {
            for byte in sending {
                client.write_all(&[byte]).await.unwrap();
                polyloop::yield_now().await;
            }
        });
        // Every read is dropped at its first pending poll and restarted.
        let mut received = Vec::new();
        while received.len() < message.len() {
            let mut buf = [0; 3];
            if let Some(n) = poll_once(server.read(&mut buf)).await {
                received.extend_from_slice(&buf[..n.unwrap()]);
            }
            polyloop::yield_now().await;
        }
        assert_eq!(received, message);
        sender.await.unwrap();
    });
}

fn a_dropped_accept_has_taken_no_connection(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        assert!(poll_once(listener.accept()).await.is_none());
        let client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        server.read_exact(&mut [0]).await.unwrap();
    });
}

fn a_dropped_connect_leaves_no_descriptor_registered(backend: Backend) {
    run_on(backend, async {
        // A full backlog: further connects get no answer.
        let listener = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )
        .unwrap();
        let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let addr = listener.local_addr().unwrap().as_socket().unwrap();

        let before = polyloop::runtime::metrics().sources;
        let mut held = Vec::new();
        let mut n_timed_out = 0;
        while n_timed_out < 3 {
            let connect = TcpStream::connect(addr);
            match polyloop::timeout(Duration::from_millis(20), connect).await {
                Ok(stream) => held.push(stream.unwrap()),
                Err(_) => n_timed_out += 1,
            }
        }
        drop(held);
        assert_eq!(polyloop::runtime::metrics().sources, before);
    });
}

fn a_dropped_wait_leaves_no_waker_behind(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        for _ in 0..1_000 {
            assert!(poll_once(server.readable()).await.is_none_or(|ready| ready.is_ok()));
            assert!(poll_once(server.read(&mut [0])).await.is_none());
        }
        // If a thousand wakers were left, each would now poll this task.
        let before = polyloop::runtime::metrics().polls;
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let n_polls = polyloop::runtime::metrics().polls - before;
        assert!(n_polls < 10, "{n_polls} polls for one byte");
    });
}

fn aborting_a_task_closes_its_connection(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let task = polyloop::spawn(async move { server.read(&mut [0]).await });
        polyloop::yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    });
}

fn a_timeout_around_a_read_leaves_the_stream_usable(backend: Backend) {
    run_on(backend, async {
        let (client, server) = pair().await;
        let mut buf = [0; 8];
        for _ in 0..10 {
            let late = polyloop::timeout(Duration::from_millis(1), server.read(&mut buf)).await;
            assert!(late.is_err());
            client.write_all(b"in time").await.unwrap();
            let read = polyloop::timeout(Duration::from_secs(10), server.read(&mut buf)).await;
            assert_eq!(read.unwrap().unwrap(), 7);
        }
    });
}
