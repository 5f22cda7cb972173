//! Aim: a loop's memory depends on what is alive, not on what has ever existed.
//!
//! The tests of this file measure the process, so they form one test.

mod util;

use std::alloc::System;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    CancellationToken, JoinSet, Runtime, channel, metrics, run, sleep, spawn, yield_now,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the bytes that are allocated at present.
fn bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Runs `step` a million times, and asserts that the second half leaves no allocation behind.
async fn assert_flat(what: &str, mut step: impl AsyncFnMut(usize)) {
    for i in 0..100_000 {
        step(i).await;
    }
    let before = bytes();
    for i in 100_000..1_000_000 {
        step(i).await;
    }
    let growth = bytes().saturating_sub(before);
    assert!(growth < 4_096, "{what}: {growth} bytes more");
}

#[test]
fn a_million_of_anything_leaves_nothing_behind() {
    run(async {
        assert_flat("spawn and join", async |_| spawn(async {}).await.unwrap()).await;
        assert_flat("spawn and detach", async |_| {
            drop(spawn(async {}));
            yield_now().await;
        })
        .await;
        assert_flat("spawn and abort", async |_| {
            let task = spawn(pending::<()>());
            task.abort();
            task.await.unwrap_err();
        })
        .await;
        assert_flat("cancelled timers", async |i| {
            let mut nap = sleep(Duration::from_millis(1_000 - i as u64 % 1_000));
            poll_fn(|cx| {
                assert!(std::pin::Pin::new(&mut nap).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        })
        .await;
        assert_flat("yields", async |_| yield_now().await).await;
        assert_eq!((metrics().tasks, metrics().timers), (0, 0));
    })
    .unwrap();

    util::run_virtual(assert_flat("fired timers", async |i| {
        sleep(Duration::from_nanos(i as u64 % 1_000)).await;
    }));

    remote_wakes_leave_nothing_behind();
    ten_tasks_after_a_million_hold_little();
    a_loop_that_never_sleeps_follows_its_load_down();
    a_loop_that_sleeps_once_follows_its_load_down();
    ten_thousand_loops_leave_nothing_behind();
    a_burst_leaves_nothing_behind();
}

/// Asserts that the value that `f` returns holds little memory after a burst.
fn assert_small<T>(what: &str, f: impl AsyncFnOnce() -> T) {
    run(async {
        let before = bytes();
        let kept = f().await;
        let left = bytes().saturating_sub(before);
        assert!(left < 256 * 1_024, "{what}: {left} bytes remain after a burst");
        drop(kept);
    })
    .unwrap();
}

fn a_burst_leaves_nothing_behind() {
    const N: usize = 100_000;
    type Message = [u64; 64];
    assert_small("unbounded channel of one thread", async || {
        let (sender, mut receiver) = channel::local::unbounded::<Message>();
        (0..N).for_each(|_| sender.send([1; 64]).unwrap());
        for _ in 0..N {
            receiver.recv().await.unwrap();
        }
        // It releases memory when it is found empty.
        assert!(receiver.try_recv().is_err());
        (sender, receiver)
    });
    assert_small("bounded channel of one thread", async || {
        let (sender, mut receiver) = channel::local::bounded::<Message>(N);
        (0..N).for_each(|_| sender.try_send([1; 64]).unwrap());
        for _ in 0..N {
            receiver.recv().await.unwrap();
        }
        // It releases memory when it is found empty.
        assert!(receiver.try_recv().is_err());
        (sender, receiver)
    });
    assert_small("unbounded channel between threads", async || {
        let (sender, mut receiver) = channel::unbounded::<Message>();
        (0..N).for_each(|_| sender.send([1; 64]).unwrap());
        for _ in 0..N {
            receiver.recv().await.unwrap();
        }
        // It releases memory when it is found empty.
        assert!(receiver.try_recv().is_err());
        (sender, receiver)
    });
    assert_small("bounded channel between threads, by try_recv", async || {
        let (sender, mut receiver) = channel::bounded::<Message>(N);
        (0..N).for_each(|_| sender.try_send([1; 64]).unwrap());
        (0..N).for_each(|_| assert!(receiver.try_recv().is_ok()));
        assert!(receiver.try_recv().is_err());
        (sender, receiver)
    });
    assert_small("senders that wait for capacity", async || {
        let (sender, receiver) = channel::bounded(1);
        sender.send(0).await.unwrap();
        let mut waiting: Vec<_> = (0..N).map(|_| Box::pin(sender.send(1))).collect();
        for send in &mut waiting {
            assert!(poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await.is_pending());
        }
        drop(waiting);
        (sender, receiver)
    });
    assert_small("waiters of a token", async || {
        let token = CancellationToken::new();
        let mut waiting: Vec<_> = (0..N).map(|_| Box::pin(token.cancelled())).collect();
        for wait in &mut waiting {
            assert!(poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx))).await.is_pending());
        }
        drop(waiting);
        drop((0..N).map(|_| token.child_token()).collect::<Vec<_>>());
        token
    });
    assert_small("a join set", async || {
        let mut set = JoinSet::new();
        for _ in 0..N {
            // Larger than the allocations that the loop keeps for the next spawns.
            set.spawn(async { [1_u64; 128] });
        }
        while set.join_next().await.is_some() {}
        // The slots of the tasks are released when the loop sleeps.
        for _ in 0..30 {
            sleep(Duration::from_millis(1)).await;
        }
        set
    });
}

fn remote_wakes_leave_nothing_behind() {
    run(async {
        let stop = Arc::new(AtomicBool::new(false));
        let waker: Waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let far = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut n_wakes = 0_u64;
                while !stop.load(Ordering::Relaxed) || n_wakes < 1_000_000 {
                    waker.wake_by_ref();
                    n_wakes += 1;
                }
            })
        };
        let before = bytes();
        assert_flat("wakes from another thread", async |_| yield_now().await).await;
        stop.store(true, Ordering::Relaxed);
        far.join().unwrap();
        yield_now().await;
        let growth = bytes().saturating_sub(before);
        assert!(growth < 64 * 1_024, "{growth} bytes more");
    })
    .unwrap();
}

fn ten_tasks_after_a_million_hold_little() {
    run(async {
        let ten: Vec<_> = (0..10).map(|_| spawn(pending::<()>())).collect();
        yield_now().await;
        let before = bytes();
        let million: Vec<_> =
            (0..1_000_000).map(|_| spawn(sleep(Duration::from_secs(9)))).collect();
        yield_now().await;
        let most = bytes() - before;
        drop(million.into_iter().map(|task| task.abort()).collect::<Vec<_>>());
        // Memory is released in small steps while the loop is idle.
        for _ in 0..200 {
            sleep(Duration::from_millis(1)).await;
        }
        let left = bytes().saturating_sub(before);
        assert!(left < most / 50, "{left} of {most} bytes remain");
        ten.into_iter().for_each(|task| task.abort());
    })
    .unwrap();
}

/// The memory that a loop may keep after a million tasks: one MiB for the table's first chunk, and one for
/// the allocations of the next spawns.
const KEPT: usize = 5 * 1_024 * 1_024;

/// Runs a million tasks; returns the memory that they have taken.
async fn a_million_tasks(before: usize) -> usize {
    let tasks: Vec<_> = (0..1_000_000).map(|_| spawn(async {})).collect();
    let most = bytes() - before;
    for task in tasks {
        task.await.unwrap();
    }
    most
}

fn a_loop_that_never_sleeps_follows_its_load_down() {
    run(async {
        let before = bytes();
        let most = a_million_tasks(before).await;
        let at_once = bytes() - before;
        for _ in 0..300_000 {
            yield_now().await;
        }
        let left = bytes().saturating_sub(before);
        println!(
            "{most} bytes with a million tasks, {at_once} after they have finished, {left} later"
        );
        assert!(left < KEPT, "{left} of {most} bytes remain");
    })
    .unwrap();
}

fn a_loop_that_sleeps_once_follows_its_load_down() {
    run(async {
        let before = bytes();
        let most = a_million_tasks(before).await;
        sleep(Duration::from_secs(3)).await;
        let left = bytes().saturating_sub(before);
        assert!(left < KEPT, "{left} of {most} bytes remain");
    })
    .unwrap();
}

fn ten_thousand_loops_leave_nothing_behind() {
    let make_and_drop = || {
        let runtime = Runtime::new().unwrap();
        drop(runtime.spawn(sleep(Duration::from_secs(1))));
        runtime.block_on(yield_now()).unwrap();
    };
    make_and_drop();
    let before = bytes();
    for _ in 0..10_000 {
        make_and_drop();
    }
    let growth = bytes().saturating_sub(before);
    assert!(growth < 4_096, "{growth} bytes more");
}
