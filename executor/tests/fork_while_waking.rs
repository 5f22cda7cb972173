//! A child that is forked while other threads wake, create and drop loops can create a loop.
//!
//! The only test of its file: the child inherits the state that all threads of this process have left.

mod util;

use std::future::{pending, poll_fn, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    Handle, JoinHandle, Runtime, channel, run, sleep, spawn, spawn_blocking, yield_now,
};
use polyloop_reactor::conformance::in_forked_child;

use util::with_fatal_watchdog;

const N_FORKS: usize = 400;

/// Longer than any step in the child takes.
const LIMIT: Duration = Duration::from_secs(20);

/// Uses a loop of the child, with threads.
fn use_own_loop() -> io::Result<u32> {
    run(async {
        let (sender, mut receiver) = channel::unbounded();
        let handle = Handle::current().unwrap();
        let thread = thread::spawn(move || {
            let seven = handle.spawn(async {
                sleep(Duration::from_micros(10)).await;
                7
            });
            sender.send(seven).unwrap();
        });
        let seven = receiver.recv().await.unwrap().await.unwrap();
        thread.join().unwrap();
        spawn_blocking(move || seven + 1).await.unwrap()
    })
}

/// Keeps the threads of the parent busy.
fn hammer(wakers: &[Waker], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

fn make_loops(is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        drop(Runtime::new().unwrap());
    }
}

#[test]
fn a_child_forked_while_threads_wake_loops_can_create_loops_and_reaches_none_of_its_parent() {
    let runtime = Runtime::new().unwrap();
    let other = Runtime::new().unwrap();
    let wakers: Vec<Waker> = [&runtime, &other]
        .iter()
        .flat_map(|runtime| [runtime, runtime])
        .map(|runtime| runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).unwrap())
        .collect();
    let handle = runtime.handle();
    let is_over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| hammer(&wakers, &is_over));
        }
        scope.spawn(|| make_loops(&is_over));
        let mut tasks: Vec<JoinHandle<()>> = Vec::new();
        for number in 0..N_FORKS {
            if number % 10 == 0 {
                // The parent's loops read their messages from time to time.
                runtime.block_on(yield_now()).unwrap();
                other.block_on(yield_now()).unwrap();
            }
            tasks.push(runtime.spawn(pending()));
            let inherited = &tasks;
            let mut runtime = Some((number % 7 == 0).then(|| Runtime::new().unwrap()));
            let code = in_forked_child(|| {
                with_fatal_watchdog(LIMIT, || {
                    // Handles of the parent's loops reach no loop here, and do not wait.
                    wakers.iter().for_each(Waker::wake_by_ref);
                    let stranger = handle.spawn(ready(7)).join_timeout(Duration::from_secs(30));
                    let is_refused = stranger.is_ok_and(|outcome| outcome.is_err());
                    // A copy of the parent's runtime can be dropped.
                    drop(runtime.take());
                    let own = Runtime::new().unwrap();
                    let task = own.spawn(pending::<()>());
                    own.block_on(yield_now()).unwrap();
                    assert_ne!(own.handle(), handle);
                    // Ids of the parent's tasks do not name tasks of this loop.
                    let is_own = own.block_on(async {
                        inherited.iter().for_each(|task| task.abort());
                        yield_now().await;
                        !task.is_finished()
                    });
                    drop(task);
                    is_refused && is_own.unwrap() && use_own_loop().is_ok_and(|eight| eight == 8)
                })
            });
            if code.as_ref().ok() != Some(&0) {
                is_over.store(true, Ordering::Relaxed);
            }
            assert_eq!(code.unwrap(), 0, "fork {number}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // The parent's loops still work.
    for runtime in [runtime, other] {
        assert_eq!(runtime.block_on(async { spawn(ready(7)).await }).unwrap().unwrap(), 7);
    }
}
