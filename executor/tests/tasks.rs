//! Aim: however a task ends, it ends in isolation, once, and in order.

mod util;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use polyloop_executor::{JoinHandle, Runtime, metrics, run, sleep, spawn, yield_now};

use util::{ForeignWaker, OnDrop, Trace, run_virtual, virtual_runtime};

/// Runs one more task on the loop, to check that it still works.
async fn assert_loop_works() {
    let before = metrics().tasks;
    assert_eq!(spawn(async { 6 * 7 }).await.unwrap(), 42);
    assert_eq!(metrics().tasks, before);
}

#[test]
fn spawned_tasks_start_in_order_after_the_spawner_yields() {
    let trace = Trace::default();
    run(async {
        let tasks = ["first", "second", "third"].map(|name| {
            let trace = trace.clone();
            spawn(async move { trace.push(name) })
        });
        trace.push("spawned");
        for task in tasks {
            task.await.unwrap();
        }
    })
    .unwrap();
    trace.assert(&["spawned", "first", "second", "third"]);
}

#[test]
fn joins_return_in_any_order_what_the_tasks_returned() {
    run(async {
        let mut tasks: Vec<_> = (0..100)
            .map(|i| {
                spawn(async move {
                    for _ in 0..i % 7 {
                        yield_now().await;
                    }
                    i
                })
            })
            .collect();
        tasks.reverse();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), 99 - i);
        }
    })
    .unwrap();
}

#[test]
fn a_panic_in_a_poll_ends_that_task_only() {
    run(async {
        let error = spawn(async { panic!("boom {}", metrics().tasks) }).await.unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(error.to_string(), "task panicked: boom 1");
        let payload = error.try_into_panic().unwrap();
        assert_eq!(payload.downcast_ref::<String>().unwrap(), "boom 1");
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_panic_with_any_payload_reaches_the_handle() {
    run(async {
        let error = spawn(async { panic_any(7_u8) }).await.unwrap_err();
        assert_eq!(error.to_string(), "task panicked");
        assert_eq!(*error.try_into_panic().unwrap().downcast::<u8>().unwrap(), 7);
    })
    .unwrap();
}

#[test]
fn a_panicking_destructor_of_a_finished_future_is_that_tasks_outcome() {
    struct Finished;
    impl Future for Finished {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }
    impl Drop for Finished {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    run(async {
        let error = spawn(Finished).await.unwrap_err();
        assert_eq!(error.to_string(), "task panicked: dropped");
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_panicking_destructor_of_an_aborted_future_is_contained() {
    run(async {
        let task = spawn(async {
            let _bomb = OnDrop(|| panic!("dropped"));
            pending::<()>().await;
        });
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_panicking_destructor_of_an_unwanted_output_is_contained() {
    run(async {
        // Detached before and after its completion.
        drop(spawn(async { OnDrop(|| panic!("unwanted")) }));
        let task = spawn(async { OnDrop(|| panic!("unwanted, later")) });
        yield_now().await;
        yield_now().await;
        drop(task);
        assert_eq!(metrics().tasks, 0);
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn an_output_that_outlives_its_loop_is_dropped_with_its_handle_and_may_panic() {
    let trace = Trace::default();
    let runtime = Runtime::new().unwrap();
    let at_drop = trace.clone();
    let task = runtime.spawn(async {
        OnDrop(move || {
            at_drop.push("dropped");
            panic!("dropped after the loop");
        })
    });
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    trace.assert(&[]);
    drop(task);
    trace.assert(&["dropped"]);
}

#[test]
fn a_payload_that_panics_when_dropped_is_contained() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("payload dropped");
        }
    }
    run(async {
        drop(spawn(async { panic_any(Payload) }));
        yield_now().await;
        yield_now().await;
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_panicking_joiner_waker_is_contained() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("waker");
        }
    }
    run(async {
        let mut task = spawn(async { 7 });
        let waker = Waker::from(std::sync::Arc::new(Bomb));
        assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
        yield_now().await;
        yield_now().await;
        assert_eq!(task.await.unwrap(), 7);
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_panic_of_the_main_future_leaves_the_loop_usable() {
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(async { 1 });
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { panic!("main") })
    }));
    assert!(panicked.is_err());
    assert_eq!(runtime.block_on(task).unwrap().unwrap(), 1);
}

#[test]
fn abort_before_the_first_poll_drops_the_future_at_once() {
    let trace = Trace::default();
    run(async {
        let guard = trace.on_drop("dropped");
        let polled = trace.clone();
        let task = spawn(async move {
            let _guard = guard;
            polled.push("polled");
        });
        task.abort();
        trace.push("aborted");
        assert!(task.await.unwrap_err().is_cancelled());
    })
    .unwrap();
    trace.assert(&["dropped", "aborted"]);
}

#[test]
fn abort_of_a_waiting_task_drops_its_future_at_once() {
    let trace = Trace::default();
    run_virtual(async {
        let guard = trace.on_drop("dropped");
        let task = spawn(async move {
            let _guard = guard;
            sleep(Duration::from_secs(3_600)).await;
        });
        yield_now().await;
        assert_eq!(metrics().timers, 1);
        task.abort();
        task.abort();
        trace.push("aborted");
        assert_eq!(metrics().timers, 0);
        assert!(task.await.unwrap_err().is_cancelled());
    });
    trace.assert(&["dropped", "aborted"]);
}

#[test]
fn a_task_that_aborts_itself_is_dropped_at_its_next_await() {
    let trace = Trace::default();
    run(async {
        let handle: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let (own, guard, inner) = (Rc::clone(&handle), trace.on_drop("dropped"), trace.clone());
        let task = spawn(async move {
            let _guard = guard;
            own.borrow().as_ref().unwrap().abort();
            inner.push("continues to its await");
            yield_now().await;
            inner.push("never");
        });
        handle.replace(Some(task));
        yield_now().await;
        yield_now().await;
        let task = handle.take().unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
    })
    .unwrap();
    trace.assert(&["continues to its await", "dropped"]);
}

#[test]
fn a_task_that_aborts_itself_and_returns_keeps_its_output() {
    run(async {
        let handle: Rc<RefCell<Option<JoinHandle<i32>>>> = Rc::default();
        let own = Rc::clone(&handle);
        handle.replace(Some(spawn(async move {
            own.borrow().as_ref().unwrap().abort();
            7
        })));
        yield_now().await;
        yield_now().await;
        let task = handle.take().unwrap();
        assert_eq!(task.await.unwrap(), 7);
    })
    .unwrap();
}

#[test]
fn abort_after_completion_changes_nothing() {
    run(async {
        let task = spawn(async { 7 });
        yield_now().await;
        yield_now().await;
        task.abort();
        assert_eq!(task.await.unwrap(), 7);
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn an_abort_from_the_tasks_own_destructor_is_harmless() {
    run(async {
        let handle: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let own = Rc::clone(&handle);
        let task = spawn(async move {
            let _guard = OnDrop(move || own.borrow().as_ref().unwrap().abort());
            pending::<()>().await;
        });
        handle.replace(Some(task));
        yield_now().await;
        handle.borrow().as_ref().unwrap().abort();
        let task = handle.take().unwrap();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(metrics().tasks, 0);
    })
    .unwrap();
}

#[test]
fn a_dropped_handle_detaches_and_the_task_continues() {
    let trace = Trace::default();
    run(async {
        let inner = trace.clone();
        drop(spawn(async move {
            yield_now().await;
            inner.push("done");
        }));
        for _ in 0..4 {
            yield_now().await;
        }
        assert_eq!(metrics().tasks, 0);
    })
    .unwrap();
    trace.assert(&["done"]);
}

#[test]
fn a_handle_dropped_within_its_own_task_detaches_it() {
    run(async {
        let handle: Rc<RefCell<Option<JoinHandle<()>>>> = Rc::default();
        let own = Rc::clone(&handle);
        handle.replace(Some(spawn(async move { drop(own.take()) })));
        yield_now().await;
        yield_now().await;
        assert_eq!(metrics().tasks, 0);
        assert_loop_works().await;
    })
    .unwrap();
}

#[test]
fn a_join_that_is_dropped_and_restarted_loses_nothing() {
    run(async {
        let mut task = spawn(async {
            yield_now().await;
            vec![1, 2, 3]
        });
        for _ in 0..5 {
            let mut join = pin!(&mut task);
            let polled = poll_fn(|cx| Poll::Ready(join.as_mut().poll(cx))).await;
            if let Poll::Ready(output) = polled {
                assert_eq!(output.unwrap(), [1, 2, 3]);
                return;
            }
            yield_now().await;
        }
        panic!("the task does not end");
    })
    .unwrap();
}

#[test]
fn the_last_waker_of_a_join_is_the_one_that_is_woken() {
    run(async {
        let mut task = spawn(yield_now());
        let (first, first_waker) = ForeignWaker::new();
        let (second, second_waker) = ForeignWaker::new();
        for waker in [&first_waker, &second_waker] {
            assert!(Pin::new(&mut task).poll(&mut Context::from_waker(waker)).is_pending());
        }
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!((first.n_wakes(), second.n_wakes()), (0, 1));
        task.await.unwrap();
    })
    .unwrap();
}

#[test]
fn a_chain_of_joins_resolves_from_the_innermost_on() {
    let trace = Trace::default();
    run(async {
        let mut inner: Pin<Box<dyn Future<Output = usize>>> = Box::pin(ready(0));
        for _ in 0..1_000 {
            let previous = inner;
            inner = Box::pin(async move { spawn(previous).await.unwrap() + 1 });
        }
        trace.push(inner.await);
    })
    .unwrap();
    trace.assert(&["1000"]);
}

#[test]
fn a_thousand_tasks_woken_at_once_run_in_the_order_of_the_wakes() {
    run(async {
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let order: Rc<RefCell<Vec<usize>>> = Rc::default();
        let is_open = Rc::new(Cell::new(false));
        let tasks: Vec<_> = (0..1_000)
            .map(|i| {
                let (wakers, order, is_open) = (wakers.clone(), order.clone(), is_open.clone());
                spawn(poll_fn(move |cx| {
                    if is_open.get() {
                        order.borrow_mut().push(i);
                        return Poll::Ready(());
                    }
                    wakers.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }))
            })
            .collect();
        while wakers.borrow().len() < 1_000 {
            yield_now().await;
        }
        is_open.set(true);
        // A fixed permutation: 7 and 1,000 have no common divisor.
        let expected: Vec<_> = (0..1_000).map(|i| i * 7 % 1_000).collect();
        for i in &expected {
            wakers.borrow()[*i].wake_by_ref();
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), expected);
    })
    .unwrap();
}

#[test]
fn a_waker_kept_beyond_its_task_is_harmless() {
    run(async {
        let kept: Rc<RefCell<Vec<Waker>>> = Rc::default();
        for _ in 0..100 {
            let keep = kept.clone();
            spawn(poll_fn(move |cx| {
                keep.borrow_mut().push(cx.waker().clone());
                Poll::Ready(())
            }))
            .await
            .unwrap();
        }
        // The slots have new owners, which stale ids must not wake.
        let n_polls = Rc::new(Cell::new(0));
        let count = n_polls.clone();
        let waiting = spawn(poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::<()>::Pending
        }));
        yield_now().await;
        for waker in kept.take() {
            waker.wake();
        }
        for _ in 0..3 {
            yield_now().await;
        }
        assert_eq!(n_polls.get(), 1);
        waiting.abort();
    })
    .unwrap();
}

#[test]
fn unfinished_tasks_are_cancelled_in_order_when_the_main_future_ends() {
    let trace = Trace::default();
    run(async {
        for name in ["first", "second", "third"] {
            let guard = trace.on_drop(name);
            drop(spawn(async move {
                let _guard = guard;
                pending::<()>().await;
            }));
        }
        yield_now().await;
        trace.push("main is done");
    })
    .unwrap();
    trace.assert(&["main is done", "first", "second", "third"]);
}

#[test]
fn tasks_spawned_by_destructors_at_the_end_are_cancelled_too() {
    let trace = Trace::default();
    run(async {
        let inner = trace.clone();
        drop(spawn(async move {
            let _guard = OnDrop(move || {
                let (polled, guard) = (inner.clone(), inner.on_drop("heir dropped"));
                let heir = spawn(async move {
                    let _guard = guard;
                    polled.push("heir polled");
                });
                inner.push("heir spawned");
                drop(heir);
            });
            pending::<()>().await;
        }));
        yield_now().await;
    })
    .unwrap();
    trace.assert(&["heir dropped", "heir spawned"]);
}

#[test]
fn a_destructor_may_wake_and_join_finished_tasks() {
    let runtime = virtual_runtime();
    let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
    for _ in 0..10 {
        let (theirs, all) = (wakers.clone(), wakers.clone());
        drop(runtime.spawn(async move {
            let _guard = OnDrop(move || all.borrow().iter().for_each(Waker::wake_by_ref));
            poll_fn(|cx| {
                theirs.borrow_mut().push(cx.waker().clone());
                Poll::<()>::Pending
            })
            .await;
        }));
    }
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert_eq!(wakers.borrow().len(), 10);
    wakers.borrow().iter().for_each(Waker::wake_by_ref);
}

#[test]
fn the_main_futures_destructors_still_reach_the_loop() {
    let trace = Trace::default();
    let at_drop = trace.clone();
    let guard = OnDrop(move || at_drop.push(polyloop_executor::current_loop().is_some()));
    run(async move {
        let _moved_in = &guard;
    })
    .unwrap();
    trace.assert(&["true"]);
}

#[test]
#[should_panic(expected = "no runtime on this thread")]
fn spawn_outside_a_loop_is_a_clear_panic() {
    drop(spawn(ready(())));
}
