//! The life of a server: accept until a shutdown, then wait for the open connections.

use std::future::poll_fn;
use std::io;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use polyloop_executor::{poll_caught, spawn, timeout, with_reactor};
use polyloop_reactor::socket::max_descriptors;

use super::accept_loop::AcceptLoop;
use super::connection::OpenConnection;
use super::idle::IdleWatch;
use super::shutdown::AbortConnections;
use super::{Server, ServerReport, Session};
use crate::accept::Listener;

impl<L: Listener> Server<L> {
    /// Accepts connections until a [shutdown](crate::ShutdownHandle::shutdown) is requested, and spawns a task
    /// for each, which calls `handler` with the stream and its [`Session`].
    ///
    /// After the request it closes the listeners, waits for the open connections up to the
    /// [shutdown timeout](Server::shutdown_timeout), aborts the remaining ones and returns the report. To
    /// shut down on a signal, spawn a task that waits for the signal and then calls `shutdown`.
    ///
    /// # Errors
    /// An error of `accept` that no later attempt can succeed after, such as `EBADF`
    /// ([`AcceptErrorKind::Listener`](crate::AcceptErrorKind::Listener)). Open connections are aborted.
    ///
    /// # Panics
    /// Panics if polled outside a running loop.
    ///
    /// # Cancel safety
    /// If the future is dropped, the listeners are closed and open connections are aborted. No connection is
    /// accepted and lost.
    pub async fn serve<H>(self, handler: H) -> io::Result<ServerReport>
    where
        H: AsyncFn(L::Stream, Session<L::Addr>) -> io::Result<()> + 'static,
    {
        let Server {
            listeners,
            max_connections,
            idle_timeout,
            shutdown_timeout,
            exhaustion_timeout,
            shared,
            on_event,
        } = self;
        let max_connections = max_connections.unwrap_or_else(default_max_connections);
        shared.idle.replace(idle_timeout.map(IdleWatch::new));
        let abort_connections = AbortConnections(Rc::clone(&shared));
        let handler = Rc::new(handler);
        let mut next_id = 0;
        let start = |stream: L::Stream, peer: L::Addr| {
            let id = next_id;
            next_id += 1;
            let connection = OpenConnection::new(&shared, &on_event, id, peer.clone());
            let handler = Rc::clone(&handler);
            let session = Session::new(peer, shared.shutdown.clone());
            let activity = connection.activity.clone();
            let task = spawn(async move {
                // The handler's future is created here rather than passed to an `async fn`, which would store
                // it twice.
                //
                // Panics are caught, so that the event is reported after unwinding: a panic of
                // `on_event` during unwinding would abort the process.
                let result = {
                    let mut handling = pin!(Some(handler(stream, session)));
                    poll_fn(|cx| {
                        if let Some(activity) = &activity {
                            activity.note();
                        }
                        poll_caught(handling.as_mut(), cx)
                    })
                    .await
                };
                let panic = connection.finish(result);
                if let Some(panic) = panic {
                    resume_unwind(panic);
                }
            });
            shared.tasks.borrow_mut().insert(id, task);
        };
        {
            let mut accept_loop = AcceptLoop::new(
                &listeners,
                max_connections,
                exhaustion_timeout,
                &shared,
                &on_event,
                start,
            );
            poll_fn(|cx| accept_loop.poll(cx)).await?;
        }
        // Clients in the accept queue are reset.
        drop(listeners);
        let drained = poll_fn(|cx| {
            shared.set_waker(cx.waker());
            shared.abort_idle(cx);
            if shared.n_open() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(shutdown_timeout, drained).await.is_err() {
            let n_aborted = shared.n_open() as u64;
            shared.count(|report| report.aborted = n_aborted);
        }
        drop(abort_connections);
        Ok(shared.report())
    }
}

/// Returns the default of [`Server::max_connections`].
fn default_max_connections() -> usize {
    let watchable = with_reactor(|reactor| reactor.descriptor_limit()).ok().flatten();
    let limit = [max_descriptors(), watchable].into_iter().flatten().min();
    limit.map_or(usize::MAX, |limit| (limit - limit / 8).max(1))
}
