//! Cancellation tokens: waiters and children.

use std::future::{poll_fn, ready};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use polyloop::future::Either;
use polyloop::{CancellationToken, race};
use polyloop::{Runtime, spawn, yield_now};

use super::curve::Curve;

const RUNTIME: &str = "polyloop";

pub(crate) const CURVES: &[Curve] = &[
    Curve { name: "token: race a ready message", runtime: RUNTIME, measure: race_message },
    Curve { name: "token: poll a waiter again", runtime: RUNTIME, measure: poll_again },
    Curve { name: "token: a waiter leaves", runtime: RUNTIME, measure: leave },
    Curve { name: "token: a waiting task is cancelled", runtime: RUNTIME, measure: cancel },
    Curve { name: "token: make and drop a child", runtime: RUNTIME, measure: child },
];

/// The number of operations beside the waiters.
const N_BESIDE: usize = 100_000;

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

fn run<R>(future: impl Future<Output = R>) -> R {
    Runtime::new().unwrap().block_on(future).unwrap()
}

fn race_message(n: usize) -> (Duration, usize) {
    run(async {
        let token = CancellationToken::new();
        let waiters = waiters(&token, n).await;
        let start = Instant::now();
        for _ in 0..N_BESIDE {
            assert_eq!(race(token.cancelled(), ready(())).await, Either::Right(()));
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
                spawn(async move { token.cancelled().await })
            })
            .collect();
        yield_now().await;
        let start = Instant::now();
        token.cancel();
        for task in tasks {
            task.await.unwrap();
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
