//! polyloop, with its loop-local channel and with its `Send` channel.

use std::time::Duration;

use polyloop::channel;
use polyloop::{Handle, Runtime};

use crate::machine::spawn_elsewhere;
use crate::peer::Peer;

pub(crate) struct Polyloop;

impl Peer for Polyloop {
    const NAME: &'static str = "polyloop";

    type Runtime = Runtime;

    fn make() -> Result<Runtime, String> {
        Runtime::new().map_err(|error| error.to_string())
    }

    fn block_on<F: Future>(runtime: &mut Runtime, future: F) -> F::Output {
        runtime.block_on(future).expect("the selector works")
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        polyloop::spawn(future)
    }

    fn yield_now() -> impl Future + Send {
        polyloop::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        polyloop::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        polyloop::spawn(polyloop::sleep(duration))
    }

    async fn own_round_trips(n: u32) -> bool {
        let (there, mut far) = channel::local::unbounded::<u32>();
        let (back, mut near) = channel::local::unbounded::<u32>();
        let echo = polyloop::spawn(async move {
            while let Some(i) = far.recv().await {
                let _ = back.send(i);
            }
        });
        for i in 0..n {
            let _ = there.send(i);
            near.recv().await;
        }
        drop(there);
        echo.await.is_ok()
    }

    async fn flood(n: u32) {
        let (sender, mut receiver) = channel::unbounded();
        let thread = spawn_elsewhere(move || {
            (0..n).for_each(|i| sender.send(i).expect("the receiver is alive"))
        });
        for _ in 0..n {
            receiver.recv().await.expect("the sender sends all messages");
        }
        thread.join().expect("the sender does not panic");
    }

    async fn spawn_from_afar(n: u32) -> bool {
        let handle = Handle::current().expect("a loop runs");
        let (done, mut is_done) = channel::unbounded::<()>();
        let thread = spawn_elsewhere(move || {
            for _ in 0..n {
                let done = done.clone();
                drop(handle.spawn(async move { drop(done) }));
            }
        });
        is_done.recv().await;
        thread.join().is_ok()
    }
}

/// The same runtime, with the `Send` channel.
pub(crate) struct PolyloopShared;

impl Peer for PolyloopShared {
    const NAME: &'static str = "polyloop, Send channel";

    type Runtime = Runtime;

    fn make() -> Result<Runtime, String> {
        Polyloop::make()
    }

    fn block_on<F: Future>(runtime: &mut Runtime, future: F) -> F::Output {
        Polyloop::block_on(runtime, future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Polyloop::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        Polyloop::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        Polyloop::spawn_sleep(duration)
    }

    async fn own_round_trips(n: u32) -> bool {
        let (there, mut far) = channel::unbounded::<u32>();
        let (back, mut near) = channel::unbounded::<u32>();
        let echo = polyloop::spawn(async move {
            while let Some(i) = far.recv().await {
                let _ = back.send(i);
            }
        });
        for i in 0..n {
            let _ = there.send(i);
            near.recv().await;
        }
        drop(there);
        echo.await.is_ok()
    }
}
