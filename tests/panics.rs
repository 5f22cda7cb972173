//! A panic ends its task and nothing else.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use polyloop::Backend;
use polyloop::net::{TcpListener, TcpStream};

use common::run_on;

backends!(
    a_panic_in_one_connection_leaves_the_others_alone,
    a_panic_between_two_reads_closes_the_connection,
    a_panic_in_the_main_future_reaches_the_caller,
);

fn a_panic_in_one_connection_leaves_the_others_alone(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let n_panics = Rc::new(Cell::new(0));
        let count = Rc::clone(&n_panics);
        let server = polyloop::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = Rc::clone(&count);
                let serve = polyloop::spawn(async move {
                    let mut byte = [0];
                    while stream.read(&mut byte).await.unwrap() > 0 {
                        assert_ne!(byte[0], b'!', "panic requested");
                        stream.write_all(&byte).await.unwrap();
                    }
                });
                drop(polyloop::spawn(async move {
                    if serve.await.is_err_and(|error| error.is_panic()) {
                        count.set(count.get() + 1);
                    }
                }));
            }
        });
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(TcpStream::connect(addr).await.unwrap());
        }
        for client in clients.iter().step_by(2) {
            client.write_all(b"!").await.unwrap();
            // The panicking task drops its end.
            assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
        }
        for client in clients.iter().skip(1).step_by(2) {
            client.write_all(b"x").await.unwrap();
            let mut byte = [0];
            client.read_exact(&mut byte).await.unwrap();
            assert_eq!(&byte, b"x");
        }
        assert_eq!(n_panics.get(), 5);
        server.abort();
        drop(server);
    });
}

fn a_panic_between_two_reads_closes_the_connection(backend: Backend) {
    run_on(backend, async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let task = polyloop::spawn(async move {
            stream.read_exact(&mut [0]).await.unwrap();
            panic!("in the middle of it");
        });
        client.write_all(b"x").await.unwrap();
        let error = task.await.map(|()| "no panic").unwrap_err();
        assert_eq!(error.to_string(), "task panicked: in the middle of it");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(polyloop::runtime::metrics().tasks, 0);
    });
}

fn a_panic_in_the_main_future_reaches_the_caller(backend: Backend) {
    let runtime = polyloop::Runtime::builder().backend(backend).build().unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            polyloop::yield_now().await;
            panic!("main");
        })
    }));
    assert_eq!(caught.map(|_: std::io::Result<()>| ()).unwrap_err().downcast_ref(), Some(&"main"));
    // The loop still works.
    assert_eq!(runtime.block_on(async { polyloop::spawn(async { 7 }).await.unwrap() }).unwrap(), 7);
}
