//! The idle timeout of connections.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use polyloop_executor::{Sleep, now, sleep_until};

/// Finds the connections whose handlers have had nothing to do for the idle timeout.
///
/// A handler is polled when something that it waits for happens: its connection can be read or
/// written, or one of its timers expires. So the time since its last poll is the time that it has been idle, and
/// the operations of the connection need not be counted. For the same reason the handler's own task must not wait
/// for the timeout: the server's task does.
///
/// Each connection is checked once in the time of the timeout, however much happens on it.
pub(super) struct IdleWatch {
    timeout: Duration,
    /// When to check which connection next.
    checks: BTreeSet<(Instant, u64)>,
    /// Armed for the first of `checks`.
    timer: Option<(Instant, Sleep)>,
    connections: BTreeMap<u64, Watched>,
}

struct Watched {
    check_at: Instant,
    activity: Rc<Activity>,
}

/// The connections that are checked in one poll, before other tasks run.
const CHECKS_PER_POLL: usize = 256;

impl IdleWatch {
    pub(super) fn new(timeout: Duration) -> IdleWatch {
        IdleWatch { timeout, checks: BTreeSet::new(), timer: None, connections: BTreeMap::new() }
    }

    /// Adds a connection. The server must be polled afterwards.
    pub(super) fn add(&mut self, id: u64) -> Rc<Activity> {
        let activity = Rc::new(Activity { last: Cell::new(now()), has_expired: Cell::new(false) });
        // If the deadline overflows, the connection never times out.
        if let Some(check_at) = activity.last.get().checked_add(self.timeout) {
            self.checks.insert((check_at, id));
            self.connections.insert(id, Watched { check_at, activity: Rc::clone(&activity) });
        }
        activity
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&mut self, id: u64) {
        if let Some(watched) = self.connections.remove(&id) {
            self.checks.remove(&(watched.check_at, id));
        }
    }

    /// Returns the connections that have exceeded the timeout, and has the task woken for the next check.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<u64> {
        let mut idle = Vec::new();
        let mut n_checks = 0;
        while let Some(&(first, _)) = self.checks.first() {
            let (deadline, timer) = self.timer.get_or_insert_with(|| (first, sleep_until(first)));
            if *deadline != first {
                *deadline = first;
                timer.reset(first);
            }
            if Pin::new(timer).poll(cx).is_pending() {
                break;
            }
            self.timer = None;
            let now = now();
            while let Some(&(check_at, id)) = self.checks.first()
                && check_at <= now
            {
                if n_checks == CHECKS_PER_POLL {
                    cx.waker().wake_by_ref();
                    return idle;
                }
                n_checks += 1;
                self.checks.pop_first();
                let Some(watched) = self.connections.get_mut(&id) else { continue };
                match watched.activity.last.get().checked_add(self.timeout) {
                    Some(later) if later > now => {
                        watched.check_at = later;
                        self.checks.insert((later, id));
                    }
                    _ => {
                        watched.activity.has_expired.set(true);
                        idle.push(id);
                    }
                }
            }
        }
        idle
    }
}

/// When a handler was last polled.
pub(super) struct Activity {
    last: Cell<Instant>,
    has_expired: Cell<bool>,
}

impl Activity {
    /// Returns whether the connection exceeded the timeout.
    pub(super) fn has_expired(&self) -> bool {
        self.has_expired.get()
    }

    /// Records a poll of the handler.
    pub(super) fn note(&self) {
        self.last.set(now());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use polyloop_executor::{Builder, sleep};

    use super::*;

    fn run<R>(future: impl Future<Output = R>) -> R {
        Builder::new().virtual_time(true).build().unwrap().block_on(future).unwrap()
    }

    /// Waits until a connection expires.
    async fn next_idle(watch: &mut IdleWatch) -> Vec<u64> {
        poll_fn(|cx| {
            let idle = watch.poll(cx);
            if idle.is_empty() { Poll::Pending } else { Poll::Ready(idle) }
        })
        .await
    }

    /// Runs a handler and records each poll.
    async fn noted<F: Future>(activity: &Activity, handler: F) -> F::Output {
        let mut handler = pin!(handler);
        poll_fn(|cx| {
            activity.note();
            handler.as_mut().poll(cx)
        })
        .await
    }

    const TIMEOUT: Duration = Duration::from_secs(3);

    #[test]
    fn a_handler_whose_client_is_silent_expires_after_the_timeout() {
        run(async {
            let start = now();
            let mut watch = IdleWatch::new(TIMEOUT);
            let activity = watch.add(7);
            let handler =
                polyloop_executor::spawn(async move { noted(&activity, pending::<()>()).await });
            assert_eq!(next_idle(&mut watch).await, [7]);
            assert_eq!(now() - start, TIMEOUT);
            drop(handler);
        });
    }

    #[test]
    fn the_timeout_counts_from_the_last_poll_of_the_handler() {
        run(async {
            let start = now();
            let mut watch = IdleWatch::new(TIMEOUT);
            let activity = watch.add(7);
            let handler = polyloop_executor::spawn(async move {
                let handler = async {
                    for _ in 0..10 {
                        sleep(Duration::from_secs(2)).await;
                    }
                    pending::<()>().await;
                };
                noted(&activity, handler).await;
            });
            assert_eq!(next_idle(&mut watch).await, [7]);
            assert_eq!(now() - start, Duration::from_secs(23));
            drop(handler);
        });
    }

    #[test]
    fn removed_connections_do_not_expire_and_the_others_do_in_order() {
        run(async {
            let mut watch = IdleWatch::new(TIMEOUT);
            for id in 0..10 {
                watch.add(id);
                sleep(Duration::from_millis(100)).await;
            }
            for id in [0, 3, 9] {
                watch.remove(id);
            }
            for id in [1, 2, 4, 5, 6, 7, 8] {
                assert_eq!(next_idle(&mut watch).await, [id]);
                watch.remove(id);
            }
            assert!(watch.checks.is_empty() && watch.connections.is_empty());
        });
    }

    #[test]
    fn many_connections_that_expire_at_once_are_returned_in_steps() {
        run(async {
            let mut watch = IdleWatch::new(TIMEOUT);
            (0..1_000).for_each(|id| drop(watch.add(id)));
            let mut n_idle = 0;
            while n_idle < 1_000 {
                let idle = next_idle(&mut watch).await;
                assert!(idle.len() <= CHECKS_PER_POLL);
                n_idle += idle.len();
            }
        });
    }

    #[test]
    fn a_timeout_beyond_the_range_of_instants_never_expires() {
        run(async {
            let mut watch = IdleWatch::new(Duration::MAX);
            drop(watch.add(7));
            assert!(poll_fn(|cx| Poll::Ready(watch.poll(cx))).await.is_empty());
        });
    }
}
