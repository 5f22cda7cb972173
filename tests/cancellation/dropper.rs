//! The harness: it drops an operation at every poll, and restarts it.
//!
//! A case prepares its sockets or tasks, passes each operation to the [`Dropper`] instead of awaiting it,
//! and finally checks that nothing was lost or repeated. [`at_every_poll`] runs the case repeatedly, with
//! the drop at the first pending poll, the second, and so on, until the operation completes before it
//! would be dropped.
//!
//! The operation's peer makes one step at each pending poll and stands still otherwise. So each poll makes
//! as little progress as possible, and the operation is dropped in every state between two polls.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use polyloop::driver::poll_proceed;
use polyloop::runtime::metrics;
use polyloop::time::interval;
use polyloop::{Backend, sleep, yield_now};

use crate::common::run_on;

/// More pending polls than any operation here needs.
const MAX_POLLS: usize = 200;

/// How often an operation is dropped before it may complete, if more than once.
const MANY_DROPS: usize = 40;

/// How long to wait for the operation to be woken before the peer makes another step. TCP may need several
/// until its buffer has space again.
const TIME_LIMIT: Duration = Duration::from_millis(1);

/// The maximum number of turns until the loop has released what the case dropped.
const TURNS_TO_SETTLE: usize = 1_000;

/// When an operation is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Just after it returned `Pending`.
    AtOnce,
    /// After it was woken, instead of the poll, so that the wake is lost.
    OnceWoken,
}

#[derive(Clone, Copy)]
struct Plan {
    /// The pending poll at which it is dropped, the first being 1.
    at_poll: usize,
    moment: Moment,
    max_drops: usize,
    /// Whether the task's budget is spent at the start, so that every leaf is pending once.
    is_spent: bool,
    /// The sizes of the pieces that the peer sends.
    piece_bytes: usize,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { at_poll, moment, max_drops, is_spent, piece_bytes } = self;
        write!(f, "dropped at poll {at_poll} {moment:?}, {max_drops} times, spent: {is_spent}, ")?;
        write!(f, "pieces of {piece_bytes}")
    }
}

impl Plan {
    fn all(at_poll: usize) -> impl Iterator<Item = Plan> {
        (0..8).map(move |i| Plan {
            at_poll,
            moment: if i & 1 == 0 { Moment::AtOnce } else { Moment::OnceWoken },
            max_drops: if i & 2 == 0 { 1 } else { MANY_DROPS },
            is_spent: i & 4 != 0,
            // Each is combined with each poll, and with each of the others at some poll.
            piece_bytes: [1, 3, 1_000][(at_poll + i) % 3],
        })
    }
}

/// Drops operations according to its plan.
pub(crate) struct Dropper {
    plan: Plan,
    n_drops: Cell<usize>,
}

impl Dropper {
    /// Performs an operation, and restarts it whenever it is dropped. `peer` makes one step at each pending
    /// poll.
    pub(crate) async fn again<T>(
        &self,
        mut start: impl AsyncFnMut() -> T,
        mut peer_step: impl FnMut(),
    ) -> T {
        loop {
            if let Some(output) = self.once(start(), &mut peer_step).await {
                return output;
            }
        }
    }

    /// Returns how much the peer should send at each step.
    pub(crate) fn piece_bytes(&self) -> usize {
        self.plan.piece_bytes
    }

    /// Performs an operation; returns `None` if it was dropped.
    pub(crate) async fn once<F: Future>(
        &self,
        future: F,
        mut peer_step: impl FnMut(),
    ) -> Option<F::Output> {
        let Plan { at_poll, moment, max_drops, is_spent, .. } = self.plan;
        let is_dropped = self.n_drops.get() < max_drops;
        let output = {
            let mut future = pin!(future);
            let mut tick = pin!(interval(TIME_LIMIT));
            let mut n_polls = 0;
            poll_fn(|cx| {
                if is_spent && n_polls == 0 {
                    while poll_proceed(cx).is_ready() {}
                }
                if n_polls == at_poll && is_dropped {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                n_polls += 1;
                if n_polls == at_poll && is_dropped && matches!(moment, Moment::AtOnce) {
                    return Poll::Ready(None);
                }
                peer_step();
                while tick.poll_tick(cx).is_ready() {}
                Poll::Pending
            })
            .await
        };
        if output.is_none() {
            self.n_drops.set(self.n_drops.get() + 1);
            if matches!(moment, Moment::AtOnce) {
                peer_step();
            }
            // The loop polls for events, and the other waiters get theirs.
            sleep(Duration::from_micros(1)).await;
        }
        output
    }
}

/// Runs `case` with its operations dropped at every poll, and checks that nothing is left in the loop.
pub(crate) fn at_every_poll(backend: Backend, case: impl AsyncFn(&Dropper)) {
    for at_poll in 1..MAX_POLLS {
        let mut n_drops = 0;
        for plan in Plan::all(at_poll) {
            let say = SayWhere(plan);
            let dropper = Dropper { plan, n_drops: Cell::new(0) };
            run_on(backend, async {
                // After a turn, so that the test's own timer is among them.
                yield_now().await;
                let before = n_left();
                case(&dropper).await;
                for _ in 0..TURNS_TO_SETTLE {
                    if n_left() == before {
                        break;
                    }
                    yield_now().await;
                }
                assert_eq!(n_left(), before, "tasks, timers and sources are left");
            });
            n_drops += dropper.n_drops.get();
            drop(say);
        }
        if n_drops == 0 {
            assert!(at_poll > 1, "nothing was dropped, because no operation was pending");
            return;
        }
    }
    panic!("still pending at poll {MAX_POLLS}");
}

/// Counts the tasks, timers and sources in the loop.
fn n_left() -> [usize; 3] {
    let metrics = metrics();
    [metrics.tasks, metrics.timers, metrics.sources]
}

/// Prints the plan under which a case failed.
struct SayWhere(Plan);

impl Drop for SayWhere {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", self.0);
        }
    }
}

/// Defines a test of each case on each backend, and records the functions that it covers.
macro_rules! cases {
    ($($case:ident: $($shown:literal),+;)*) => {
        /// The functions that the cases here drop.
        pub(crate) const SHOWN: &[&str] = &[$($($shown),+),*];

        mod dropped {
            $(
                pub(super) fn $case(backend: polyloop::Backend) {
                    $crate::dropper::at_every_poll(backend, super::$case);
                }
            )*

            $crate::backends!($($case),*);
        }
    };
}

pub(crate) use cases;

/// Tests of the harness.
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream as StdStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use polyloop::net::UnixStream;

    use super::*;

    /// Reads two bytes in a way that is not cancel safe: a drop between them loses the first.
    async fn read_carelessly(stream: &UnixStream) -> [u8; 2] {
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[test]
    fn an_operation_that_loses_data_is_detected() {
        let found = catch_unwind(AssertUnwindSafe(|| {
            at_every_poll(Backend::Poll, async |dropper| {
                let (ours, mut peer) = StdStream::pair().unwrap();
                let ours = UnixStream::from_std(ours).unwrap();
                let mut bytes = 1..=8;
                let peer_step = || {
                    peer.write_all(&[bytes.next().unwrap_or(0)]).unwrap();
                };
                let read = dropper.again(async || read_carelessly(&ours).await, peer_step).await;
                assert_eq!(read, [1, 2]);
            });
        }));
        assert!(found.is_err());
    }

    #[test]
    fn an_operation_that_leaks_is_detected() {
        let found = catch_unwind(AssertUnwindSafe(|| {
            at_every_poll(Backend::Poll, async |dropper| {
                let left = dropper.once(polyloop::sleep(Duration::from_millis(1)), || {}).await;
                if left.is_none() {
                    drop(polyloop::spawn(std::future::pending::<()>()));
                }
            });
        }));
        assert!(found.is_err());
    }

    #[test]
    fn an_operation_that_is_never_pending_is_an_error() {
        let found = catch_unwind(AssertUnwindSafe(|| {
            at_every_poll(Backend::Poll, async |dropper| {
                dropper.once(async {}, || {}).await;
            });
        }));
        assert!(found.is_err());
    }
}
