//! The operations that a runtime needs to be measured.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::machine::spawn_elsewhere;

/// One runtime. All of it stays on one thread.
pub(crate) trait Peer: 'static {
    /// The column's name.
    const NAME: &'static str;

    /// The runtime's type.
    type Runtime;

    /// Creates a runtime, or returns why this machine cannot run it.
    fn make() -> Result<Self::Runtime, String>;

    /// Runs a future to completion.
    fn block_on<F: Future>(runtime: &mut Self::Runtime, future: F) -> F::Output;

    /// Spawns a task on the current runtime. Its handle is awaited, or dropped at the end of the test.
    fn spawn<F>(future: F) -> impl Future + 'static
    where
        F: Future<Output = ()> + Send + 'static;

    /// Yields, with the runtime's function if it has one.
    fn yield_now() -> impl Future + Send {
        YieldNow(false)
    }

    /// Sleeps.
    fn sleep(duration: Duration) -> impl Future + 'static;

    /// Spawns a task that sleeps.
    fn spawn_sleep(duration: Duration) -> impl Future + 'static;

    /// Spawns a task that never completes.
    fn spawn_parked() -> impl Future + 'static {
        Self::spawn(std::future::pending())
    }

    /// Sends a number to another task and back, `n` times, over the runtime's channel. Returns `false` if it has
    /// none.
    fn own_round_trips(_n: u32) -> impl Future<Output = bool> {
        async { false }
    }

    /// Receives `n` messages that another thread sends as fast as it can, over the runtime's channel or, if it
    /// has none, async-channel.
    fn flood(n: u32) -> impl Future<Output = ()> {
        async_channel_flood(n)
    }

    /// Spawns `n` tasks from another thread and waits until they have run. Returns `false` if it cannot.
    fn spawn_from_afar(_n: u32) -> impl Future<Output = bool> {
        async { false }
    }
}

/// Receives messages from another thread over async-channel.
pub(crate) async fn async_channel_flood(n: u32) {
    let (sender, receiver) = async_channel::unbounded();
    let thread = spawn_elsewhere(move || {
        (0..n).for_each(|i| sender.try_send(i).expect("the receiver is alive"));
    });
    for _ in 0..n {
        receiver.recv().await.expect("the sender sends all messages");
    }
    thread.join().expect("the sender does not panic");
}

/// Is pending once, for runtimes without a yield function.
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
