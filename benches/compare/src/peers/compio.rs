//! compio, on io_uring.

use std::time::Duration;

use compio::runtime::Runtime;

use crate::peer::Peer;

pub(crate) struct Compio;

impl Peer for Compio {
    const NAME: &'static str = "compio";

    type Runtime = Runtime;

    fn make() -> Result<Runtime, String> {
        Runtime::new().map_err(|error| error.to_string())
    }

    fn block_on<F: Future>(runtime: &mut Runtime, future: F) -> F::Output {
        runtime.block_on(future)
    }

    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        compio::runtime::spawn(future)
    }

    fn sleep(duration: Duration) -> impl Future + 'static {
        compio::time::sleep(duration)
    }

    fn spawn_sleep(duration: Duration) -> impl Future + 'static {
        compio::runtime::spawn(compio::time::sleep(duration))
    }
}
