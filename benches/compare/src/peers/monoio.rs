//! monoio, on io_uring where it starts and on epoll where it does not.

use std::time::Duration;

use monoio::{FusionDriver, FusionRuntime, RuntimeBuilder};

use crate::peer::Peer;

pub(crate) struct Monoio;

#[cfg(target_os = "linux")]
type Fusion = FusionRuntime<
    monoio::time::TimeDriver<monoio::IoUringDriver>,
    monoio::time::TimeDriver<monoio::LegacyDriver>,
>;

impl Peer for Monoio {
    const NAME: &'static str = "monoio";

    type Runtime = Fusion;

    fn make() -> Result<Fusion, String> {
        let builder = RuntimeBuilder::<FusionDriver>::new().enable_timer();
        builder.build().map_err(|error| error.to_string())
    }

    fn block_on<F: Future>(runtime: &mut Fusion, future: F) -> F::Output {
        runtime.block_on(future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        monoio::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        monoio::time::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        monoio::spawn(monoio::time::sleep(duration))
    }
}
