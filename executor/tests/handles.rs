//! Aim: a join handle works on any thread, loop and executor.

mod util;

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Handle, JoinHandle, Runtime, run, sleep, spawn, spawn_blocking, task, yield_now,
};

use util::{Trace, block_on_elsewhere, run_virtual, with_watchdog};

const LIMIT: Duration = Duration::from_secs(60);

/// Moves a `Send` handle to a plain thread, calls `f` there, and returns its result.
async fn elsewhere<T: Send + 'static, R: Send + 'static>(
    handle: JoinHandle<T>,
    f: impl FnOnce(JoinHandle<T>) -> R + Send + 'static,
) -> R {
    spawn_blocking(move || f(handle)).await.unwrap()
}

#[test]
fn a_handle_from_spawn_is_joined_on_a_plain_thread() {
    run(async {
        let task = spawn(async {
            sleep(Duration::from_millis(1)).await;
            String::from("done")
        });
        let output = elsewhere(task, |mut task| task.join_timeout(LIMIT)).await;
        assert_eq!(output.unwrap().unwrap(), "done");
    })
    .unwrap();
}

#[test]
fn a_handle_from_spawn_is_awaited_on_another_loop_and_under_a_foreign_executor() {
    run(async {
        let first = spawn(async { 1 });
        let second = spawn(async { 2 });
        let on_a_loop = elsewhere(first, |task| run(task).unwrap()).await;
        let foreign = elsewhere(second, block_on_elsewhere).await;
        assert_eq!((on_a_loop.unwrap(), foreign.unwrap()), (1, 2));
    })
    .unwrap();
}

#[test]
fn a_handle_of_another_loop_on_the_same_thread_returns_an_output_that_is_not_send() {
    let (home, away) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let mut task = home.spawn(async { Rc::new(7) });
    // Requested elsewhere, completed on the loop, taken elsewhere.
    away.block_on(async {
        let joined = polyloop_executor::timeout(Duration::ZERO, &mut task).await;
        assert!(joined.is_err());
    })
    .unwrap();
    home.block_on(async {
        for _ in 0..3 {
            yield_now().await;
        }
    })
    .unwrap();
    assert!(task.is_finished());
    assert_eq!(*away.block_on(task).unwrap().unwrap(), 7);
}

#[test]
fn a_panic_an_abort_and_the_end_of_the_loop_reach_a_waiting_thread() {
    let panicked = run(async {
        elsewhere(spawn(async { panic!("far away") }), |mut task: JoinHandle<()>| {
            task.join_timeout(LIMIT)
        })
        .await
    });
    assert_eq!(panicked.unwrap().unwrap().unwrap_err().to_string(), "task panicked: far away");

    let aborted = run(async {
        let abort = |mut task: JoinHandle<()>| {
            task.abort();
            task.join_timeout(LIMIT)
        };
        elsewhere(spawn(pending()), abort).await
    });
    assert!(aborted.unwrap().unwrap().unwrap_err().is_cancelled());

    let (to_thread, handles) = mpsc::channel::<JoinHandle<()>>();
    let thread = thread::spawn(move || handles.recv().unwrap().join_timeout(LIMIT));
    run(async { to_thread.send(spawn(pending())).unwrap() }).unwrap();
    assert!(thread.join().unwrap().unwrap().unwrap_err().is_cancelled());
}

#[test]
fn a_handle_that_outlives_its_loop_returns_cancelled_to_a_thread() {
    let [mut task] = run(async { [spawn(pending::<()>())] }).unwrap();
    assert!(task.join_timeout(LIMIT).unwrap().unwrap_err().is_cancelled());
}

#[test]
fn a_join_that_times_out_can_be_repeated() {
    run(async {
        let (open, gate) = mpsc::channel();
        let task = spawn(async move {
            while gate.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            7
        });
        let outcome = elsewhere(task, move |mut task| {
            let start = Instant::now();
            let short = task.join_timeout(Duration::from_millis(5));
            assert!(start.elapsed() >= Duration::from_millis(5));
            assert!(short.is_err());
            assert!(task.join_timeout(Duration::ZERO).is_err());
            open.send(()).unwrap();
            task.join_timeout(Duration::MAX)
        });
        assert_eq!(outcome.await.unwrap().unwrap(), 7);
    })
    .unwrap();
}

#[test]
#[should_panic(expected = "within a runtime")]
fn a_blocking_join_inside_a_loop_is_a_clear_panic() {
    let outcome = run(async {
        let mut task = spawn(async {});
        spawn(async move { drop(task.join_timeout(LIMIT)) }).await
    });
    std::panic::resume_unwind(outcome.unwrap().unwrap_err().try_into_panic().unwrap());
}

#[test]
fn a_thread_spawns_on_a_loop_and_takes_the_result_with_a_limit() {
    with_watchdog(LIMIT, || {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle();
        let thread = thread::spawn(move || {
            let mut late = handle.spawn(pending::<()>());
            assert!(late.join_timeout(Duration::from_millis(1)).is_err());
            late.abort();
            assert!(late.join_timeout(LIMIT).unwrap().unwrap_err().is_cancelled());
            let mut soon = handle.spawn(async { 6 * 7 }).named("soon");
            soon.join_timeout(LIMIT).unwrap().unwrap()
        });
        let joined = runtime.block_on(async { spawn_blocking(|| thread.join()).await });
        assert_eq!(joined.unwrap().unwrap().unwrap(), 42);
    });
}

#[test]
fn ten_thousand_handles_awaited_elsewhere_lose_nothing() {
    with_watchdog(LIMIT, || {
        const N: u64 = 10_000;
        run(async {
            let (to_thread, handles) = mpsc::channel::<JoinHandle<u64>>();
            let sum = spawn_blocking(move || {
                let outputs = handles.into_iter().map(|mut task| task.join_timeout(LIMIT).unwrap());
                outputs.map(Result::unwrap).sum::<u64>()
            });
            for number in 0..N {
                to_thread
                    .send(spawn(async move {
                        if number % 3 == 0 {
                            yield_now().await;
                        }
                        number
                    }))
                    .unwrap();
                if number % 64 == 0 {
                    yield_now().await;
                }
            }
            drop(to_thread);
            assert_eq!(sum.await.unwrap(), N * (N - 1) / 2);
        })
        .unwrap();
    });
}

#[test]
fn is_finished_is_accurate_on_the_loops_thread_and_after_a_request_elsewhere() {
    run(async {
        let task = spawn(async {});
        assert!(!task.is_finished());
        yield_now().await;
        assert!(task.is_finished());
        let finished = elsewhere(task, |mut task| {
            let before = task.is_finished();
            // The first poll sends a request; the loop answers.
            while task.join_timeout(Duration::ZERO).is_err() {
                if task.is_finished() {
                    break;
                }
                thread::yield_now();
            }
            (before, task.is_finished())
        });
        assert_eq!(finished.await, (false, true));
        let blocking = spawn_blocking(|| ());
        while !blocking.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        blocking.await.unwrap();
    })
    .unwrap();
}

#[test]
fn done_callbacks_are_called_in_order_before_the_joiner_and_see_the_output() {
    let trace = Trace::default();
    run(async {
        let task = spawn(async {
            yield_now().await;
            7
        });
        for name in ["first", "second"] {
            let trace = trace.clone();
            task.on_done(move |output| trace.push(format!("{name} {}", output.as_ref().unwrap())));
        }
        let output = task.await.unwrap();
        trace.push(format!("joined {output}"));
    })
    .unwrap();
    trace.assert(&["first 7", "second 7", "joined 7"]);
}

#[test]
fn a_callback_is_called_for_a_finished_detached_panicked_or_cancelled_task() {
    let trace = Trace::default();
    run(async {
        let note = |what: &'static str| {
            let trace = trace.clone();
            move |output: &Result<(), polyloop_executor::JoinError>| {
                let end = match output {
                    Ok(()) => "returned",
                    Err(error) if error.is_cancelled() => "was cancelled",
                    Err(_) => "panicked",
                };
                trace.push(format!("{what} {end}"));
            }
        };
        let over = spawn(async {});
        yield_now().await;
        over.on_done(note("over"));
        over.await.unwrap();
        let detached = spawn(async {});
        detached.on_done(note("detached"));
        drop(detached);
        let panicked = spawn(async { panic!("boom") });
        panicked.on_done(note("panicking"));
        drop(panicked);
        let aborted = spawn(pending());
        aborted.on_done(note("aborted"));
        aborted.abort();
        yield_now().await;
        spawn(pending()).on_done(note("unfinished"));
    })
    .unwrap();
    trace.assert(&[
        "over returned",
        "aborted was cancelled",
        "detached returned",
        "panicking panicked",
        "unfinished was cancelled",
    ]);
}

#[test]
fn a_callback_that_panics_drops_the_handle_or_adds_another_is_harmless() {
    let seen = Rc::new(Cell::new(0));
    run(async {
        let task = spawn(async { 1 });
        task.on_done(|_| panic!("callback"));
        let held = Rc::new(RefCell::new(None::<JoinHandle<i32>>));
        let (inner, count) = (held.clone(), seen.clone());
        task.on_done(move |_| {
            if let Some(task) = &*inner.borrow() {
                let count = count.clone();
                task.on_done(move |output| count.set(count.get() + *output.as_ref().unwrap()));
            }
            inner.borrow_mut().take();
        });
        held.borrow_mut().replace(task);
        yield_now().await;
        assert_eq!(spawn(async { 2 }).await.unwrap(), 2);
    })
    .unwrap();
    assert_eq!(seen.get(), 1);
}

#[test]
fn abort_on_drop_aborts_the_task_unless_it_is_disarmed() {
    let trace = Trace::default();
    run(async {
        let dropped = trace.on_drop("dropped");
        let task = spawn(async move {
            let _held = dropped;
            pending::<()>().await;
        });
        let guarded = task.abort_on_drop();
        assert!(!guarded.is_finished());
        yield_now().await;
        drop(guarded);
        trace.assert(&["dropped"]);
        let kept = spawn(async { 3 }).abort_on_drop().into_handle();
        assert_eq!(kept.await.unwrap(), 3);
        assert_eq!(spawn(async { 4 }).abort_on_drop().await.unwrap(), 4);
    })
    .unwrap();
}

#[test]
fn a_task_named_from_another_thread_shows_its_name() {
    with_watchdog(LIMIT, || {
        run(async {
            let handle = Handle::current().unwrap();
            let thread = thread::spawn(move || handle.spawn(pending::<()>()).named("far"));
            let task = spawn_blocking(|| thread.join().unwrap()).await.unwrap();
            while task.id().is_none() {
                yield_now().await;
            }
            let seen = task::all().into_iter().find(|seen| Some(seen.id) == task.id()).unwrap();
            assert_eq!(seen.name.as_deref(), Some("far"));
            task.abort();
        })
        .unwrap();
    });
}

#[test]
fn an_id_is_never_reused_and_its_text_is_short() {
    run_virtual(async {
        let first = spawn(ready(()));
        let id = first.id().unwrap();
        first.await.unwrap();
        let second = spawn(async { task::current().unwrap() });
        assert_ne!(second.id().unwrap(), id);
        let (from_handle, from_task) = (second.id().unwrap(), second.await.unwrap());
        assert_eq!(from_handle, from_task);
        assert_eq!(task::current().unwrap().to_string(), "main");
        assert!(from_task.to_string().len() < 8, "{from_task}");
        assert!(spawn_blocking(|| ()).id().is_none());
    });
    assert_eq!(task::current(), None);
}
