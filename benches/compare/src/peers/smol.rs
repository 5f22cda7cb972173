//! smol: a `LocalExecutor` under its `block_on`, with async-channel as its channel.

use std::cell::Cell;
use std::time::Duration;

use async_executor::LocalExecutor;

use crate::peer::Peer;

pub(crate) struct Smol;

thread_local! {
    static CURRENT: Cell<Option<&'static LocalExecutor<'static>>> = const { Cell::new(None) };
}

fn current() -> &'static LocalExecutor<'static> {
    CURRENT.get().expect("an executor runs")
}

impl Peer for Smol {
    const NAME: &'static str = "smol LocalExecutor";

    type Runtime = &'static LocalExecutor<'static>;

    fn make() -> Result<Self::Runtime, String> {
        // Leaked: tasks reach it by reference. One costs some hundred bytes.
        Ok(Box::leak(Box::default()))
    }

    fn block_on<F: Future>(executor: &mut Self::Runtime, future: F) -> F::Output {
        CURRENT.set(Some(executor));
        smol::block_on(executor.run(future))
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        current().spawn(future)
    }

    fn yield_now() -> impl Future + Send {
        smol::future::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        smol::Timer::after(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        current().spawn(async move {
            smol::Timer::after(duration).await;
        })
    }

    async fn own_round_trips(n: u32) -> bool {
        let (there, far) = async_channel::unbounded::<u32>();
        let (back, near) = async_channel::unbounded::<u32>();
        let echo = current().spawn(async move {
            while let Ok(i) = far.recv().await {
                let _ = back.try_send(i);
            }
        });
        for i in 0..n {
            let _ = there.try_send(i);
            let _ = near.recv().await;
        }
        drop(there);
        echo.await;
        true
    }
}
