//! tokio: the current-thread runtime that all ratios refer to, and a `LocalSet` on it.

use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::machine::spawn_elsewhere;
use crate::peer::Peer;

pub(crate) struct Tokio;

async fn round_trips(n: u32, spawn: impl FnOnce(Echo) -> tokio::task::JoinHandle<()>) -> bool {
    let (there, far) = mpsc::unbounded_channel::<u32>();
    let (back, mut near) = mpsc::unbounded_channel::<u32>();
    let echo = spawn(Echo { far, back });
    for i in 0..n {
        let _ = there.send(i);
        near.recv().await;
    }
    drop(there);
    echo.await.is_ok()
}

struct Echo {
    far: mpsc::UnboundedReceiver<u32>,
    back: mpsc::UnboundedSender<u32>,
}

impl Echo {
    async fn run(mut self) {
        while let Some(i) = self.far.recv().await {
            let _ = self.back.send(i);
        }
    }
}

async fn flood(n: u32) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let thread = spawn_elsewhere(move || {
        (0..n).for_each(|i| sender.send(i).expect("the receiver is alive"))
    });
    for _ in 0..n {
        receiver.recv().await.expect("the sender sends all messages");
    }
    thread.join().expect("the sender does not panic");
}

async fn spawn_from_afar(n: u32) -> bool {
    let handle = Handle::current();
    let (done, mut is_done) = mpsc::unbounded_channel::<()>();
    let thread = spawn_elsewhere(move || {
        for _ in 0..n {
            let done = done.clone();
            drop(handle.spawn(async move { drop(done) }));
        }
    });
    is_done.recv().await;
    thread.join().is_ok()
}

impl Peer for Tokio {
    const NAME: &'static str = "tokio current_thread";

    type Runtime = Runtime;

    fn make() -> Result<Runtime, String> {
        // With its drivers for I/O and time, because polyloop's loop has both.
        Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
    }

    fn block_on<F: Future>(runtime: &mut Runtime, future: F) -> F::Output {
        runtime.block_on(future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(future)
    }

    fn yield_now() -> impl Future + Send {
        tokio::task::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        tokio::spawn(tokio::time::sleep(duration))
    }

    async fn own_round_trips(n: u32) -> bool {
        round_trips(n, |echo| tokio::spawn(echo.run())).await
    }

    fn flood(n: u32) -> impl Future<Output = ()> {
        flood(n)
    }

    fn spawn_from_afar(n: u32) -> impl Future<Output = bool> {
        spawn_from_afar(n)
    }
}

pub(crate) struct TokioLocal;

impl Peer for TokioLocal {
    const NAME: &'static str = "tokio LocalSet";

    type Runtime = (Runtime, LocalSet);

    fn make() -> Result<(Runtime, LocalSet), String> {
        Ok((Tokio::make()?, LocalSet::new()))
    }

    fn block_on<F: Future>((runtime, set): &mut (Runtime, LocalSet), future: F) -> F::Output {
        set.block_on(runtime, future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::task::spawn_local(future)
    }

    fn yield_now() -> impl Future + Send {
        tokio::task::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        tokio::time::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        tokio::task::spawn_local(tokio::time::sleep(duration))
    }

    async fn own_round_trips(n: u32) -> bool {
        round_trips(n, |echo| tokio::task::spawn_local(echo.run())).await
    }

    fn flood(n: u32) -> impl Future<Output = ()> {
        flood(n)
    }
}
