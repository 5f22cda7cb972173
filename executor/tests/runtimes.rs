//! Aim: loops that run one after another or concurrently are independent.

mod util;

use std::future::{pending, poll_fn};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{Builder, Handle, Runtime, current_loop, run, sleep, spawn, yield_now};
use polyloop_reactor::Backend;

use util::{Blind, block_on_elsewhere};

/// The tests of this file count resources of the process, so they run one at a time.
static TURN: Mutex<()> = Mutex::new(());

fn take_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn blind_runtime() -> io::Result<Runtime> {
    Builder::new().selector(Box::new(Blind::default())).build()
}

#[test]
fn run_within_run_is_an_error_with_a_remedy() {
    let _turn = take_turn();
    run(async {
        let error = run(async {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("await or spawn"), "{error}");
        let other = Runtime::new().unwrap();
        let error = other.block_on(async {}).unwrap_err();
        assert!(error.to_string().contains("`block_on`"), "{error}");
        // The outer loop continues.
        spawn(yield_now()).await.unwrap();
    })
    .unwrap();
}

#[test]
fn block_on_can_be_called_many_times_and_tasks_continue_between_calls() {
    let _turn = take_turn();
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(async {
        for _ in 0..500 {
            yield_now().await;
        }
        "done"
    });
    for i in 0..1_000 {
        assert_eq!(
            runtime
                .block_on(async {
                    yield_now().await;
                    i
                })
                .unwrap(),
            i
        );
    }
    assert_eq!(runtime.block_on(task).unwrap().unwrap(), "done");
}

#[test]
fn a_ready_future_needs_no_turn() {
    let _turn = take_turn();
    let runtime = Runtime::new().unwrap();
    for _ in 0..10_000 {
        runtime.block_on(async {}).unwrap();
    }
    assert_eq!(runtime.block_on(async { polyloop_executor::metrics().waits }).unwrap(), 0);
}

#[test]
fn several_loops_on_one_thread_take_turns() {
    let _turn = take_turn();
    let runtimes: Vec<_> = (0..10).map(|_| Runtime::new().unwrap()).collect();
    let mut tasks: Vec<_> = runtimes
        .iter()
        .map(|runtime| {
            runtime.spawn(async {
                sleep(Duration::from_micros(100)).await;
                current_loop().unwrap()
            })
        })
        .collect();
    for _ in 0..3 {
        for runtime in &runtimes {
            runtime.block_on(yield_now()).unwrap();
        }
    }
    let mut numbers: Vec<_> = runtimes
        .iter()
        .rev()
        .map(|runtime| runtime.block_on(tasks.pop().unwrap()).unwrap().unwrap())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 10);
}

#[test]
fn loops_on_many_threads_are_independent() {
    let _turn = take_turn();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let sum = run(async {
                        let tasks: Vec<_> = (0..50_u64)
                            .map(|i| {
                                spawn(async move {
                                    sleep(Duration::from_micros(i)).await;
                                    i
                                })
                            })
                            .collect();
                        let mut sum = 0;
                        for task in tasks {
                            sum += task.await.unwrap();
                        }
                        sum
                    });
                    assert_eq!(sum.unwrap(), 1_225);
                }
            });
        }
    });
}

#[test]
fn a_runtime_dropped_inside_another_loop_leaves_that_one_current() {
    let _turn = take_turn();
    run(async {
        let before = current_loop();
        let other = Runtime::new().unwrap();
        drop(other.spawn(pending::<()>()));
        drop(other);
        assert_eq!(current_loop(), before);
        spawn(yield_now()).await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_loop_in_a_thread_local_may_be_dropped_at_the_threads_end() {
    let _turn = take_turn();
    thread_local! {
        static RUNTIME: Runtime = Runtime::new().unwrap();
    }
    thread::spawn(|| {
        RUNTIME.with(|runtime| {
            drop(runtime.spawn(async {
                sleep(Duration::from_secs(3_600)).await;
            }));
            runtime.block_on(yield_now()).unwrap();
        });
    })
    .join()
    .unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_loops_leak_no_descriptor() {
    let _turn = take_turn();
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    for backend in Backend::available() {
        let make_and_drop = || {
            let runtime = Builder::new().backend(*backend).build().unwrap();
            drop(runtime.spawn(sleep(Duration::from_secs(1))));
            runtime.block_on(yield_now()).unwrap();
        };
        make_and_drop();
        let before = count();
        for _ in 0..10_000 / Backend::available().len() {
            make_and_drop();
        }
        assert_eq!(count(), before, "{backend}");
    }
}

#[test]
fn more_than_1024_loops_at_once_is_an_error_and_existing_ones_work() {
    let _turn = take_turn();
    let mut runtimes: Vec<_> = (0..1_024).map(|_| blind_runtime().unwrap()).collect();
    let error = blind_runtime().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(error.to_string().contains("1,024 loops"), "{error}");
    for runtime in &runtimes {
        runtime.block_on(yield_now()).unwrap();
    }
    // Dropping one allows another.
    runtimes.pop();
    runtimes.push(blind_runtime().unwrap());
    blind_runtime().unwrap_err();
}

#[test]
fn wakers_that_outlive_their_loop_do_nothing() {
    let _turn = take_turn();
    let runtime = Runtime::new().unwrap();
    let wakers: Vec<Waker> = (0..10_000)
        .map(|_| runtime.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone()))).unwrap())
        .collect();
    drop(runtime);
    let wake_all = || wakers.iter().for_each(Waker::wake_by_ref);
    wake_all();
    thread::scope(|scope| {
        scope.spawn(wake_all);
        scope.spawn(wake_all);
    });
}

#[test]
fn ids_of_a_dead_loop_never_reach_the_next_loop_with_its_number() {
    let _turn = take_turn();
    let mut wakers: Vec<Waker> = Vec::new();
    let mut handles = Vec::new();
    let mut sleeps = Vec::new();
    for round in 0..50 {
        let runtime = Runtime::new().unwrap();
        let number = runtime.block_on(async { current_loop().unwrap() }).unwrap();
        assert_eq!(number, 0, "all earlier loops have been dropped");
        let n_polls = std::rc::Rc::new(std::cell::Cell::new(0));
        let (count, kept) = (n_polls.clone(), std::rc::Rc::new(std::cell::RefCell::new(None)));
        let keep = kept.clone();
        let task = runtime.spawn(poll_fn(move |cx| {
            count.set(count.get() + 1);
            keep.replace(Some(cx.waker().clone()));
            Poll::<()>::Pending
        }));
        let mut armed = Box::pin(sleep(Duration::from_secs(3_600)));
        runtime
            .block_on(async {
                yield_now().await;
                poll_fn(|cx| Poll::Ready(armed.as_mut().poll(cx).is_ready())).await;
                // Handles and wakers of earlier loops are used, here and on other threads.
                wakers.iter().for_each(Waker::wake_by_ref);
                handles.clear();
                sleeps.clear();
                for _ in 0..3 {
                    yield_now().await;
                }
                let wakers = &wakers;
                thread::scope(|scope| {
                    scope.spawn(move || wakers.iter().for_each(Waker::wake_by_ref));
                });
                yield_now().await;
            })
            .unwrap();
        assert_eq!(n_polls.get(), 1, "round {round}: a stale id reached a new task");
        assert_eq!(runtime.block_on(async { polyloop_executor::metrics().timers }).unwrap(), 1);
        wakers.extend(kept.take());
        handles.push(task);
        sleeps.push(armed);
        drop(runtime);
    }
}

#[test]
fn a_handle_to_a_dead_loop_returns_cancelled_even_if_its_number_is_reused() {
    let _turn = take_turn();
    let dead = Runtime::new().unwrap().handle();
    let alive = Runtime::new().unwrap();
    assert_ne!(dead, alive.handle());
    let task = dead.spawn(async { 1 });
    assert!(block_on_elsewhere(task).unwrap_err().is_cancelled());
    assert!(Handle::current().is_none());
}

#[test]
fn the_builder_chooses_the_backend_or_brings_a_selector() {
    let _turn = take_turn();
    for backend in Backend::available() {
        let runtime = Builder::new().backend(*backend).build().unwrap();
        assert_eq!(runtime.backend(), *backend);
        runtime.block_on(sleep(Duration::from_millis(1))).unwrap();
    }
    assert_eq!(blind_runtime().unwrap().backend(), Backend::Custom("blind"));
}
