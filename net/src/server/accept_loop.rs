//! The accept loop, written as a poll function so that it can wait for several things at once.

use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use polyloop_executor::now;
use polyloop_reactor::socket::AcceptErrorKind;

use super::ServerEvent;
use super::connection::Shared;
use super::event::{OnEvent, report};
use super::exhaustion::{Pause, ReserveFd};
use super::panics::contain_panic;
use crate::accept::{Listener, waiter};
use crate::async_fd::Waiter;

/// The connections that are accepted in one poll, before other tasks run.
///
/// A task may use more of its turn, but a burst of thousands of clients should not delay timers.
const ACCEPTS_PER_POLL: u32 = 32;

/// The number of connections failing in a row after which the server backs off: the cause is then not a
/// single connection.
const FAILURES_IN_A_ROW: u32 = 128;

/// Accepts connections and passes them to `start`.
pub(super) struct AcceptLoop<'a, L: Listener, S> {
    waiters: Vec<Waiter<'a, L::Io>>,
    /// The listener to try first.
    next_listener: usize,
    max_connections: usize,
    exhaustion_timeout: Duration,
    shared: &'a Shared,
    on_event: &'a OnEvent<L::Addr>,
    start: S,
    pause: Pause,
    reserve: ReserveFd,
    /// When the current series of attempts that failed for want of resources began.
    exhausted_since: Option<Instant>,
    n_failures: u32,
}

impl<'a, L: Listener, S: FnMut(L::Stream, L::Addr)> AcceptLoop<'a, L, S> {
    pub(super) fn new(
        listeners: &'a [L],
        max_connections: usize,
        exhaustion_timeout: Duration,
        shared: &'a Shared,
        on_event: &'a OnEvent<L::Addr>,
        start: S,
    ) -> AcceptLoop<'a, L, S> {
        AcceptLoop {
            waiters: listeners.iter().map(waiter).collect(),
            next_listener: 0,
            max_connections,
            exhaustion_timeout,
            shared,
            on_event,
            start,
            pause: Pause::new(),
            reserve: ReserveFd::new(),
            exhausted_since: None,
            n_failures: 0,
        }
    }

    /// Accepts pending connections and closes idle ones. Ready when a shutdown is requested or a listener is
    /// broken.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Set before anything is checked, so that no later change is missed.
        self.shared.set_waker(cx.waker());
        let polled = self.accept(cx);
        if polled.is_pending() {
            self.shared.abort_idle(cx);
        }
        polled
    }

    fn accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let has_room = self.shared.take_has_room();
        for _ in 0..ACCEPTS_PER_POLL {
            if self.shared.shutdown.is_cancelled() {
                return Poll::Ready(Ok(()));
            }
            if self.shared.n_open() >= self.max_connections {
                // A connection that ends wakes this task.
                return Poll::Pending;
            }
            if !has_room && self.pause.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let accepted = match self.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(accepted) => accepted,
            };
            let must_pause = match accepted {
                Ok((stream, peer)) => self.start(stream, peer),
                Err(error) => match AcceptErrorKind::from_error(&error) {
                    AcceptErrorKind::Listener => return Poll::Ready(Err(error)),
                    AcceptErrorKind::Connection => {
                        report(self.on_event, ServerEvent::AcceptFailed(&error));
                        self.n_failures += 1;
                        self.n_failures >= FAILURES_IN_A_ROW
                    }
                    AcceptErrorKind::Exhausted => {
                        self.handle_exhaustion(&error);
                        true
                    }
                },
            };
            if must_pause {
                self.pause.start(cx);
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Accepts a connection from the next listener that has one.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(L::Stream, L::Addr)>> {
        let n_listeners = self.waiters.len();
        for i in 0..n_listeners {
            let index = (self.next_listener + i) % n_listeners;
            let accept = |io: &L::Io| contain_panic("accepting", || L::accept(io));
            if let Poll::Ready(accepted) = self.waiters[index].poll_io(cx, accept) {
                self.next_listener = (index + 1) % n_listeners;
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }

    /// Starts serving a connection. Returns whether that failed.
    fn start(&mut self, stream: L::Stream, peer: L::Addr) -> bool {
        self.pause.reset();
        (self.exhausted_since, self.n_failures) = (None, 0);
        self.reserve.refill();
        let start = &mut self.start;
        // `spawn` panics if the loop's task table is full.
        let started = contain_panic("serving", || {
            start(stream, peer);
            Ok(())
        });
        if let Err(error) = &started {
            report(self.on_event, ServerEvent::AcceptFailed(error));
        }
        started.is_err()
    }

    /// Reports the first failure of a series, and refuses the waiting clients once the exhaustion timeout has
    /// expired.
    fn handle_exhaustion(&mut self, error: &io::Error) {
        let since = *self.exhausted_since.get_or_insert_with(|| {
            report(self.on_event, ServerEvent::Exhausted(error));
            now()
        });
        if now() - since >= self.exhaustion_timeout {
            self.refuse_waiting();
        }
    }

    /// Accepts waiting clients on the reserve descriptor and closes their connections.
    fn refuse_waiting(&mut self) {
        for _ in 0..ACCEPTS_PER_POLL {
            if !self.reserve.release() {
                return;
            }
            // The listener that has just failed.
            let n_listeners = self.waiters.len();
            let waiter = &self.waiters[(self.next_listener + n_listeners - 1) % n_listeners];
            let refused = waiter.try_now(|io: &L::Io| contain_panic("accepting", || L::accept(io)));
            let is_refused = refused.is_ok();
            drop(refused);
            self.reserve.refill();
            if !is_refused {
                return;
            }
            self.shared.count(|report| report.refused += 1);
        }
    }
}
