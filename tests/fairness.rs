//! One busy connection and many that send something now and then.

mod common;

use std::cell::Cell;
use std::io::Write;
use std::net;
use std::rc::Rc;
use std::thread;

use polyloop::Backend;
use polyloop::net::{TcpListener, TcpStream};

use common::{is_alone, run_on};

backends!(a_connection_that_is_always_ready_cannot_starve_the_others);

/// Connects to `listener`; the client's end is a plain blocking socket.
async fn connect(listener: &TcpListener) -> (net::TcpStream, TcpStream) {
    let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

fn a_connection_that_is_always_ready_cannot_starve_the_others(backend: Backend) {
    let name = format!("on_{backend}::a_connection_that_is_always_ready_cannot_starve_the_others");
    if !is_alone(&name) {
        return;
    }
    // Both ends are in this process, and select's descriptors end at 1,023.
    let n_others = if backend == Backend::Select { 450 } else { 999 };
    run_on(backend, async move {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut flooder, busy) = connect(&listener).await;
        let mut others = Vec::new();
        for _ in 0..n_others {
            others.push(connect(&listener).await);
        }
        // More than any buffer holds, as long as the peer reads.
        let flooding = thread::spawn(move || {
            let block = vec![0; 64 * 1_024];
            while flooder.write_all(&block).is_ok() {}
        });
        let n_busy_reads = Rc::new(Cell::new(0_u64));
        let count = Rc::clone(&n_busy_reads);
        let reading = polyloop::spawn(async move {
            let mut byte = [0; 1];
            loop {
                // A byte at a time, so that there is always another one.
                busy.read_exact(&mut byte).await.unwrap();
                count.set(count.get() + 1);
            }
        });
        // All others wait while the busy one runs at full speed.
        let mut tasks = Vec::new();
        let mut clients = Vec::new();
        for (client, server) in others {
            clients.push(client);
            tasks.push(polyloop::spawn(async move {
                let mut byte = [0; 1];
                server.read_exact(&mut byte).await.unwrap();
            }));
        }
        while n_busy_reads.get() < 1_000 {
            polyloop::yield_now().await;
        }
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
        let before = n_busy_reads.get();
        for task in tasks {
            task.await.unwrap();
        }
        // The busy one completes 128 reads per poll, and the loop polls for events after at most 128 polls.
        // One wait reports all others; the second is for more than 1,024 events.
        let n_reads = n_busy_reads.get() - before;
        assert!(n_reads <= 2 * 128 * 128, "{n_reads} reads before all others were served");
        reading.abort();
        drop(reading);
        polyloop::spawn_blocking(|| flooding.join().unwrap()).await.unwrap();
    });
}
