//! Sockets that move between loops, and loops that other threads reach.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop::Backend;
use polyloop::net::{TcpListener, TcpStream};

use common::{is_alone, run_on};

backends!(
    a_stream_moved_to_another_loop_keeps_working_there,
    a_stream_can_return_to_a_loop_that_it_left,
    the_two_halves_may_live_on_two_loops,
    one_listener_serves_several_loops,
    a_stream_dropped_away_from_its_loop_is_closed,
    a_stream_outlives_the_loop_it_was_registered_with,
    wakes_from_eight_threads_are_never_lost,
);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

/// Sends a message and waits for its echo, which registers the stream with the current loop.
async fn exchange(stream: &TcpStream, message: &[u8]) {
    stream.write_all(message).await.unwrap();
    let mut buf = vec![0; message.len()];
    stream.read_exact(&mut buf).await.unwrap();
    assert_eq!(buf, message);
}

async fn echo(stream: TcpStream) {
    let mut buf = [0; 1_024];
    loop {
        match stream.read(&mut buf).await.unwrap() {
            0 => return,
            n => stream.write_all(&buf[..n]).await.unwrap(),
        }
    }
}

/// Echoes on a new loop until the client closes.
fn echo_elsewhere(backend: Backend, stream: TcpStream) -> thread::JoinHandle<()> {
    thread::spawn(move || run_on(backend, echo(stream)))
}

fn a_stream_moved_to_another_loop_keeps_working_there(backend: Backend) {
    let (client, server) = run_on(backend, async {
        let (client, server) = pair().await;
        let server = polyloop::spawn(async move {
            let mut buf = [0; 1_024];
            let n = server.read(&mut buf).await.unwrap();
            server.write_all(&buf[..n]).await.unwrap();
            server
        });
        exchange(&client, b"here").await;
        (client, server.await.unwrap())
    });
    let echoing = echo_elsewhere(backend, server);
    let talking = thread::spawn(move || {
        run_on(backend, async move {
            for _ in 0..100 {
                exchange(&client, b"abroad").await;
            }
        });
    });
    talking.join().unwrap();
    echoing.join().unwrap();
}

fn a_stream_can_return_to_a_loop_that_it_left(backend: Backend) {
    run_on(backend, async move {
        let (mut client, server) = pair().await;
        let echoing = echo_elsewhere(backend, server);
        for _ in 0..10 {
            exchange(&client, b"here").await;
            let away = thread::spawn(move || {
                run_on(backend, async {
                    exchange(&client, b"there").await;
                    client
                })
            });
            client = polyloop::spawn_blocking(|| away.join().unwrap()).await.unwrap();
        }
        drop(client);
        polyloop::spawn_blocking(|| echoing.join().unwrap()).await.unwrap();
    });
}

fn the_two_halves_may_live_on_two_loops(backend: Backend) {
    run_on(backend, async move {
        let (client, server) = pair().await;
        let echoing = echo_elsewhere(backend, server);
        let (reader, writer) = client.into_split();
        const N_BYTES: usize = 4 << 20;
        let writing = thread::spawn(move || {
            run_on(backend, async move {
                let block = [7; 10_000];
                let mut left = N_BYTES;
                while left > 0 {
                    let n = left.min(block.len());
                    writer.write_all(&block[..n]).await.unwrap();
                    left -= n;
                }
            });
        });
        let mut received = 0;
        let mut buf = [0; 10_000];
        loop {
            match reader.read(&mut buf).await.unwrap() {
                0 => break,
                n => {
                    assert!(buf[..n].iter().all(|byte| *byte == 7));
                    received += n;
                }
            }
        }
        assert_eq!(received, N_BYTES);
        polyloop::spawn_blocking(|| writing.join().unwrap()).await.unwrap();
        polyloop::spawn_blocking(|| echoing.join().unwrap()).await.unwrap();
    });
}

fn one_listener_serves_several_loops(backend: Backend) {
    const N_CLIENTS: u64 = 200;
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let addr = listener.local_addr().unwrap();
    let n_served = Arc::new(AtomicU64::new(0));
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let listener = Arc::clone(&listener);
            let n_served = Arc::clone(&n_served);
            thread::spawn(move || {
                run_on(backend, async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let mut byte = [0];
                        stream.read_exact(&mut byte).await.unwrap();
                        if byte[0] == b'q' {
                            return;
                        }
                        n_served.fetch_add(1, Ordering::Relaxed);
                        stream.write_all(&byte).await.unwrap();
                    }
                });
            })
        })
        .collect();
    run_on(backend, async move {
        for _ in 0..N_CLIENTS {
            let client = TcpStream::connect(addr).await.unwrap();
            exchange(&client, b"x").await;
        }
        for _ in 0..3 {
            TcpStream::connect(addr).await.unwrap().write_all(b"q").await.unwrap();
        }
    });
    for server in servers {
        server.join().unwrap();
    }
    assert_eq!(n_served.load(Ordering::Relaxed), N_CLIENTS);
}

fn a_stream_dropped_away_from_its_loop_is_closed(backend: Backend) {
    run_on(backend, async move {
        let (client, server) = pair().await;
        // It blocks here, so it is registered here.
        assert!(polyloop::timeout(Duration::ZERO, server.read(&mut [0])).await.is_err());
        let sources = polyloop::runtime::metrics().sources;
        thread::spawn(move || drop(server)).join().unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        // The client itself may have been registered meanwhile.
        assert!(polyloop::runtime::metrics().sources <= sources);
    });
}

fn a_stream_outlives_the_loop_it_was_registered_with(backend: Backend) {
    let (client, server) = run_on(backend, async {
        let (client, server) = pair().await;
        assert!(polyloop::timeout(Duration::ZERO, server.read(&mut [0])).await.is_err());
        (client, server)
    });
    // Several loops, so that one of them reuses the number of the first.
    for _ in 0..3 {
        run_on(backend, async {
            client.write_all(b"x").await.unwrap();
            server.read_exact(&mut [0]).await.unwrap();
            assert!(polyloop::timeout(Duration::ZERO, server.read(&mut [0])).await.is_err());
        });
    }
}

fn wakes_from_eight_threads_are_never_lost(backend: Backend) {
    if !is_alone(&format!("on_{backend}::wakes_from_eight_threads_are_never_lost")) {
        return;
    }
    const N_THREADS: u64 = 8;
    const N_WAKES: u64 = 20_000;
    run_on(backend, async {
        let tasks: Vec<_> = (0..N_THREADS)
            .map(|_| {
                // Each thread wakes its task only after the task has got the previous wake, so a lost
                // one stops everything.
                let count = Arc::new(AtomicU64::new(0));
                let (send, receive) = mpsc::channel::<Waker>();
                let counter = Arc::clone(&count);
                thread::spawn(move || {
                    for waker in receive {
                        counter.fetch_add(1, Ordering::Release);
                        waker.wake();
                    }
                });
                polyloop::spawn(async move {
                    for seen in 0..N_WAKES {
                        let mut has_waited = false;
                        std::future::poll_fn(|cx| {
                            if count.load(Ordering::Acquire) > seen {
                                return Poll::Ready(());
                            }
                            if !has_waited {
                                has_waited = true;
                                send.send(cx.waker().clone()).unwrap();
                            }
                            Poll::Pending
                        })
                        .await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}
