//! glommio, which needs io_uring and enough locked memory.

use std::time::Duration;

use glommio::channels::local_channel;
use glommio::{LocalExecutor, LocalExecutorBuilder};

use crate::peer::Peer;

pub(crate) struct Glommio;

impl Peer for Glommio {
    const NAME: &'static str = "glommio";

    type Runtime = LocalExecutor;

    fn make() -> Result<LocalExecutor, String> {
        LocalExecutorBuilder::default().make().map_err(|error| error.to_string())
    }

    fn block_on<F: Future>(executor: &mut LocalExecutor, future: F) -> F::Output {
        executor.run(future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        glommio::spawn_local(future)
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        glommio::timer::Timer::new(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        glommio::spawn_local(async move {
            glommio::timer::Timer::new(duration).await;
        })
    }

    async fn own_round_trips(n: u32) -> bool {
        let (there, far) = local_channel::new_unbounded::<u32>();
        let (back, near) = local_channel::new_unbounded::<u32>();
        let echo = glommio::spawn_local(async move {
            while let Some(i) = far.recv().await {
                let _ = back.try_send(i);
            }
        });
        for i in 0..n {
            let _ = there.try_send(i);
            near.recv().await;
        }
        drop(there);
        echo.await;
        true
    }
}
