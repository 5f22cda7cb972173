//! Aim: memory for wakes from other threads is bounded by the number of tasks.
//!
//! The tests of this file measure the process, so they form one test.

use std::alloc::System;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{run, sleep, spawn};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Wakes the tasks in turn, many times, during one poll. Returns the bytes that this allocated.
fn flood(wakers: &[Waker], n_wakes: usize) -> usize {
    let before = ALLOCATOR.stats();
    thread::scope(|scope| {
        scope.spawn(|| wakers.iter().cycle().take(n_wakes).for_each(Waker::wake_by_ref));
    });
    let after = ALLOCATOR.stats();
    after.bytes_allocated - before.bytes_allocated
}

#[test]
fn tasks_woken_repeatedly_during_one_poll_are_listed_once() {
    for n_tasks in [2, 10, 1_000] {
        run(async {
            let (sender, mut receiver) = polyloop_executor::channel::unbounded();
            let n_polls = std::rc::Rc::new(std::cell::Cell::new(0));
            for _ in 0..n_tasks {
                let (sender, n_polls) = (sender.clone(), n_polls.clone());
                spawn(poll_fn(move |cx| {
                    n_polls.set(n_polls.get() + 1);
                    if n_polls.get() <= n_tasks {
                        sender.send(cx.waker().clone()).unwrap();
                    }
                    Poll::<()>::Pending
                }));
            }
            let mut wakers = Vec::new();
            while wakers.len() < n_tasks {
                wakers.push(receiver.recv().await.unwrap());
            }
            for round in 1..4 {
                let bytes = flood(&wakers, 2_000_000);
                let limit = 64 * n_tasks + 16_384;
                assert!(bytes < limit, "{n_tasks} tasks: {bytes} bytes for two million wakes");
                // The loop has to read its mailbox.
                sleep(Duration::from_millis(1)).await;
                assert_eq!(n_polls.get(), n_tasks * (1 + round), "each is polled once");
            }
        })
        .unwrap();
    }
}
