//! Aim: cancellation tokens in large numbers and at great depth, and with misbehaving wakers.

mod util;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use polyloop_executor::{CancellationToken, run, spawn};

use util::ForeignWaker;

/// Runs `f` on a stack that is too small for a recursion over many tokens.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(128 * 1024).spawn(f).unwrap().join().unwrap();
}

/// Makes a chain of tokens, returns the first and the last, and drops the others.
fn chain(n_tokens: usize) -> (CancellationToken, CancellationToken) {
    let first = CancellationToken::new();
    let mut last = first.child_token();
    for _ in 2..n_tokens {
        last = last.child_token();
    }
    (first, last)
}

#[test]
fn a_chain_of_a_million_tokens_is_cancelled_and_dropped_without_recursion() {
    on_a_small_stack(|| {
        let (first, last) = chain(1_000_000);
        first.cancel();
        assert!(last.is_cancelled());
        drop((first, last));

        // In either order, and not cancelled.
        let (first, last) = chain(1_000_000);
        drop(first);
        drop(last);
        let (first, last) = chain(1_000_000);
        drop(last);
        drop(first);

        // With all handles kept, and dropped in either order.
        for reverse in [false, true] {
            let mut tokens = vec![CancellationToken::new()];
            for i in 0..1_000_000 {
                tokens.push(tokens[i].child_token());
            }
            if reverse {
                tokens.reverse();
            }
            for token in tokens {
                drop(token);
            }
        }
    });
}

#[test]
fn a_token_is_cancelled_with_its_ancestors_even_if_their_handles_are_dropped() {
    let top = CancellationToken::new();
    let middle = top.child_token();
    let bottom = middle.child_token();
    drop(middle);
    top.cancel();
    assert!(bottom.is_cancelled());
    assert!(!CancellationToken::new().child_token().is_cancelled());
    assert!(bottom.child_token().is_cancelled());
}

#[test]
fn a_waker_that_panics_in_cancel_does_not_lose_later_wakes() {
    struct Bomb;

    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("this waker always panics");
        }
    }

    run(async {
        let token = CancellationToken::new();
        let child = token.child_token();
        let (mut bad, mut good, mut below) =
            (pin!(token.cancelled()), pin!(token.cancelled()), pin!(child.cancelled()));
        let (foreign, waker) = ForeignWaker::new();
        let bomb = Waker::from(Arc::new(Bomb));
        assert!(bad.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
        assert!(good.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(below.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let task = spawn({
            let token = token.clone();
            async move { token.cancelled().await }
        });
        polyloop_executor::yield_now().await;
        token.cancel();
        assert_eq!(foreign.n_wakes(), 2);
        task.await.unwrap();
        assert_eq!(bad.as_mut().poll(&mut Context::from_waker(&bomb)), Poll::Ready(()));
    })
    .unwrap();
}

#[test]
fn a_waiter_that_changes_its_waker_is_woken_by_the_last_one() {
    let token = CancellationToken::new();
    let mut waiting = pin!(token.cancelled());
    let wakers = [(); 3].map(|()| ForeignWaker::new());
    for (_, waker) in &wakers {
        // Twice: the second time nothing has changed.
        for _ in 0..2 {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        }
    }
    token.cancel();
    assert_eq!(wakers.map(|(foreign, _)| foreign.n_wakes()), [0, 0, 1]);
}

#[test]
fn cancelling_while_other_threads_create_and_drop_children_misses_none() {
    for _ in 0..200 {
        let token = CancellationToken::new();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let token = token.clone();
                thread::spawn(move || {
                    let mut kept = token.child_token();
                    while !token.is_cancelled() {
                        let child = token.child_token();
                        kept = child.child_token();
                    }
                    util::block_on_elsewhere(kept.cancelled());
                })
            })
            .collect();
        thread::yield_now();
        token.cancel();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
