//! tokio's current-thread runtime, with tokio-util's token and futures-util's set where tokio has none.

use std::future::{poll_fn, ready};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::curve::Curve;

const RUNTIME: &str = "tokio";

pub(crate) const CURVES: &[Curve] = &[
    Curve { name: "token: race a ready message", runtime: RUNTIME, measure: race },
    Curve { name: "token: poll a waiter again", runtime: RUNTIME, measure: poll_again },
    Curve { name: "token: a waiter leaves", runtime: RUNTIME, measure: leave },
    Curve { name: "token: a waiting task is cancelled", runtime: RUNTIME, measure: cancel },
    Curve { name: "token: make and drop a child", runtime: RUNTIME, measure: child },
    Curve { name: "tasks: wait for all", runtime: "FuturesUnordered", measure: unordered },
    Curve { name: "tasks: one join handle after the other", runtime: RUNTIME, measure: joins },
    Curve { name: "tasks: join set", runtime: RUNTIME, measure: join_set },
    Curve { name: "tasks: spawn and as_completed", runtime: "JoinSet", measure: completed },
];

/// The number of operations beside the waiters.
const N_BESIDE: usize = 100_000;

fn run<R>(future: impl Future<Output = R>) -> R {
    Builder::new_current_thread().enable_all().build().expect("it starts").block_on(future)
}

/// Polls `n` futures of the token once.
async fn waiters(token: &CancellationToken, n: usize) -> Vec<impl Future<Output = ()> + use<>> {
    let mut waiters = Vec::with_capacity(n);
    for _ in 0..n {
        let token = token.clone();
        let mut waiter = Box::pin(async move { token.cancelled().await });
        assert!(poll_fn(|cx| Poll::Ready(waiter.as_mut().poll(cx))).await.is_pending());
        waiters.push(waiter);
    }
    waiters
}

fn race(n: usize) -> (Duration, usize) {
    run(async {
        let token = CancellationToken::new();
        let waiters = waiters(&token, n).await;
        let start = Instant::now();
        for _ in 0..N_BESIDE {
            // Not `run_until_cancelled`, which does not poll the token if the future is ready.
            let cancelled = pin!(token.cancelled());
            let message = select(cancelled, ready(())).await;
            assert!(matches!(message, Either::Right(_)), "it is not cancelled");
        }
        let took = start.elapsed();
        drop(waiters);
        (took, N_BESIDE)
    })
}

fn poll_again(n: usize) -> (Duration, usize) {
    run(async {
        let token = CancellationToken::new();
        let waiters = waiters(&token, n).await;
        let mut again = pin!(token.cancelled());
        let took = poll_fn(|cx| {
            assert!(again.as_mut().poll(cx).is_pending());
            let start = Instant::now();
            for _ in 0..N_BESIDE {
                assert!(again.as_mut().poll(cx).is_pending());
            }
            Poll::Ready(start.elapsed())
        });
        let took = took.await;
        drop(waiters);
        (took, N_BESIDE)
    })
}

fn leave(n: usize) -> (Duration, usize) {
    run(async {
        let token = CancellationToken::new();
        let waiters = waiters(&token, n).await;
        let start = Instant::now();
        drop(waiters);
        (start.elapsed(), n)
    })
}

fn cancel(n: usize) -> (Duration, usize) {
    run(async {
        let token = CancellationToken::new();
        let tasks: Vec<_> = (0..n)
            .map(|_| {
                let token = token.clone();
                tokio::spawn(async move { token.cancelled().await })
            })
            .collect();
        tokio::task::yield_now().await;
        let start = Instant::now();
        token.cancel();
        for task in tasks {
            task.await.expect("no task panics");
        }
        (start.elapsed(), n)
    })
}

fn child(n: usize) -> (Duration, usize) {
    let token = CancellationToken::new();
    let children: Vec<_> = (0..n).map(|_| token.child_token()).collect();
    let start = Instant::now();
    for _ in 0..N_BESIDE {
        drop(token.child_token());
    }
    let took = start.elapsed();
    drop(children);
    (took, N_BESIDE)
}

fn unordered(n: usize) -> (Duration, usize) {
    run(async {
        let tasks: Vec<_> = (0..n).map(|i| tokio::spawn(async move { i })).collect();
        let start = Instant::now();
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let mut n_done = 0;
        while let Some(output) = tasks.next().await {
            output.expect("no task panics");
            n_done += 1;
        }
        let took = start.elapsed();
        assert_eq!(n_done, n);
        (took, n)
    })
}

fn joins(n: usize) -> (Duration, usize) {
    run(async {
        let tasks: Vec<_> = (0..n).map(|i| tokio::spawn(async move { i })).collect();
        let start = Instant::now();
        for task in tasks {
            task.await.expect("no task panics");
        }
        (start.elapsed(), n)
    })
}

fn join_set(n: usize) -> (Duration, usize) {
    run(async {
        let mut set = JoinSet::new();
        for i in 0..n {
            set.spawn(async move { i });
        }
        let start = Instant::now();
        while let Some(output) = set.join_next().await {
            output.expect("no task panics");
        }
        (start.elapsed(), n)
    })
}

fn completed(n: usize) -> (Duration, usize) {
    run(async {
        let start = Instant::now();
        let mut set = JoinSet::new();
        for i in 0..n {
            set.spawn(async move { i });
        }
        while let Some(output) = set.join_next().await {
            output.expect("no task panics");
        }
        (start.elapsed(), n)
    })
}
