//! Aim: a connection of a server takes little more memory than its handler.
//!
//! The memory of the whole process is measured, so there is one test.

use std::alloc::System;
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use polyloop::net::{Server, UnixListener, UnixStream};
use polyloop::{spawn, yield_now};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BUFFER_BYTES: usize = 16 * 1_024;

const N_CLIENTS: usize = 50;

/// Returns the number of allocated bytes.
fn bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn a_connection_holds_its_handler_once() {
    for idle_timeout in [None, Some(Duration::from_secs(60))] {
        let held = polyloop::run(bytes_per_connection(idle_timeout)).unwrap().unwrap();
        println!("with an idle timeout of {idle_timeout:?}, a connection holds {held} bytes");
        assert!(held > BUFFER_BYTES, "{held} bytes: less than the buffer");
        assert!(held < BUFFER_BYTES + 2 * 1_024, "{held} bytes");
    }
}

/// Returns the bytes that a connection holds while its handler waits with a buffer.
async fn bytes_per_connection(idle_timeout: Option<Duration>) -> io::Result<usize> {
    let path = std::env::temp_dir().join(format!("polyloop-memory-{}", std::process::id()));
    let mut server = Server::from_listener(UnixListener::bind(&path)?);
    if let Some(limit) = idle_timeout {
        server = server.idle_timeout(limit);
    }
    let stop = server.shutdown_handle();
    let n_waiting = Rc::new(Cell::new(0));
    let count = Rc::clone(&n_waiting);
    let serving = spawn(server.serve(async move |stream: UnixStream, _| {
        let mut buffer = [0; BUFFER_BYTES];
        count.set(count.get() + 1);
        while stream.read(&mut buffer).await? > 0 {}
        Ok(())
    }));
    let mut clients = Vec::with_capacity(N_CLIENTS + 1);
    // The first one also allocates what connections share.
    clients.push(UnixStream::connect(&path).await?);
    wait_for(&n_waiting, 1).await;
    let before = bytes();
    for _ in 0..N_CLIENTS {
        clients.push(UnixStream::connect(&path).await?);
    }
    wait_for(&n_waiting, N_CLIENTS + 1).await;
    let held = bytes() - before;
    drop(clients);
    stop.shutdown();
    serving.await.unwrap()?;
    Ok(held / N_CLIENTS)
}

async fn wait_for(n_waiting: &Cell<usize>, n: usize) {
    while n_waiting.get() < n {
        yield_now().await;
    }
}
