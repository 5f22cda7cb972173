//! What a runtime must be able to do to be measured.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::machine::spawn_elsewhere;

/// One runtime. All of it stays on one thread.
pub(crate) trait Peer: 'static {
    /// The column's name.
    const NAME: &'static str;

    /// A runtime that is ready to run.
    type Runtime;

    /// Makes a runtime; an error says why there is none on this machine.
    fn make() -> Result<Self::Runtime, String>;

    /// Runs a future to its end.
    fn block_on<F: Future>(runtime: &mut Self::Runtime, future: F) -> F::Output;

    /// Starts a task on the runtime that runs; what comes back is awaited, or ends with the test.
    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static;

    /// Lets others run, in the runtime's own way where it has one.
    fn yield_now() -> impl Future + Send {
        YieldNow(false)
    }

    /// Waits.
    fn sleep(duration: Duration) -> impl Future + 'static;

    /// Spawns a task that sleeps.
    fn spawn_sleep(duration: Duration) -> impl Future + 'static;

    /// Spawns a task that never ends.
    fn spawn_parked() -> impl Future + 'static {
        Self::spawn(std::future::pending())
    }

    /// Sends a number to another task and back, `n` times, over a channel of the runtime's own.
    /// False if it has none.
    fn own_round_trips(_n: u32) -> impl Future<Output = bool> {
        async { false }
    }

    /// Receives `n` messages that another thread sends as fast as it can, over the runtime's own
    /// channel or, if it has none, async-channel.
    fn flood(n: u32) -> impl Future<Output = ()> {
        async_channel_flood(n)
    }

    /// Spawns `n` tasks from another thread and waits until they have run. False if it cannot.
    fn spawn_from_afar(_n: u32) -> impl Future<Output = bool> {
        async { false }
    }
}

/// Receives what another thread sends over a channel that no runtime brings with it.
pub(crate) async fn async_channel_flood(n: u32) {
    let (sender, receiver) = async_channel::unbounded();
    let thread = spawn_elsewhere(move || {
        (0..n).for_each(|i| sender.try_send(i).expect("the receiver stays"));
    });
    for _ in 0..n {
        receiver.recv().await.expect("the sender sends them all");
    }
    thread.join().expect("the sender does not panic");
}

/// Is pending once, for runtimes without a word for it.
struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls a future once.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}
