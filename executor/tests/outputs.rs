//! Aim: the output of a finished task reaches its handle even if the loop has ended.

mod util;

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use polyloop_executor::task::{self, TaskInfo};
use polyloop_executor::{JoinHandle, Runtime, yield_now};
use util::OnDrop;

const LIMIT: Duration = Duration::from_secs(60);

/// Creates a loop, runs a task on it to completion, and drops the loop.
fn outlive<T: 'static>(output: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    let runtime = Runtime::new().unwrap();
    let task = runtime.spawn(async move { output() });
    runtime.block_on(yield_now()).unwrap();
    task
}

#[test]
fn an_output_outlives_its_loop_and_is_joined_on_a_plain_thread() {
    let mut task = outlive(|| String::from("done"));
    assert!(task.is_finished());
    assert_eq!(task.join_timeout(LIMIT).unwrap().unwrap(), "done");

    let mut task = outlive(|| String::from("far"));
    let joined = thread::spawn(move || task.join_timeout(LIMIT).unwrap().unwrap());
    assert_eq!(joined.join().unwrap(), "far");
}

#[test]
fn an_output_that_is_not_send_outlives_its_loop_on_its_thread() {
    let task = outlive(|| Rc::new(7));
    assert_eq!(*polyloop_executor::run(task).unwrap().unwrap(), 7);
}

#[test]
fn a_panic_outlives_the_loop_and_unfinished_tasks_are_cancelled() {
    let mut panicked = outlive(|| {
        if true {
            std::panic::resume_unwind(Box::new("boom"));
        }
    });
    assert!(panicked.join_timeout(LIMIT).unwrap().unwrap_err().is_panic());

    let runtime = Runtime::new().unwrap();
    let mut unfinished = runtime.spawn(pending::<()>());
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    assert!(unfinished.join_timeout(LIMIT).unwrap().unwrap_err().is_cancelled());
}

#[test]
fn an_output_that_outlives_its_loop_is_dropped_with_its_handle_and_not_before() {
    let n_dropped = Rc::new(Cell::new(0));
    let count = n_dropped.clone();
    let task = outlive(move || OnDrop(move || count.set(count.get() + 1)));
    assert_eq!(n_dropped.get(), 0);
    drop(task);
    assert_eq!(n_dropped.get(), 1);

    // The same with `AbortOnDrop`, and with a handle that is dropped on another thread.
    let far = Arc::new(AtomicUsize::new(0));
    let count = |n: &Arc<AtomicUsize>| {
        let n = n.clone();
        move || {
            OnDrop(move || {
                n.fetch_add(1, Ordering::SeqCst);
            })
        }
    };
    drop(outlive(count(&far)).abort_on_drop());
    assert_eq!(far.load(Ordering::SeqCst), 1);
    let task = outlive(count(&far));
    thread::spawn(move || drop(task)).join().unwrap();
    assert_eq!(far.load(Ordering::SeqCst), 2);
}

#[test]
fn an_output_reaches_a_waiting_thread_although_its_loop_never_runs_again() {
    for round in 0..50_u32 {
        let runtime = Runtime::new().unwrap();
        let (requested, is_requested) = mpsc::channel();
        let mut task = runtime.spawn(async move { round });
        let thread = thread::spawn(move || {
            assert!(task.join_timeout(Duration::ZERO).is_err(), "it has not run");
            requested.send(()).unwrap();
            task.join_timeout(LIMIT).unwrap().unwrap()
        });
        is_requested.recv().unwrap();
        // The task finishes in the last turn.
        runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
        drop(runtime);
        assert_eq!(thread.join().unwrap(), round);
    }
}

#[test]
fn ten_thousand_outputs_at_the_end_of_their_loop_are_not_lost() {
    for round in 0..20 {
        let runtime = Runtime::new().unwrap();
        let tasks: Vec<_> = (0..500).map(|i| runtime.spawn(async move { i })).collect();
        runtime.block_on(yield_now()).unwrap();
        let thread = thread::spawn(move || {
            for (i, mut task) in tasks.into_iter().enumerate() {
                match i % 3 {
                    0 => drop(task),
                    _ => assert_eq!(task.join_timeout(LIMIT).unwrap().unwrap(), i, "round {round}"),
                }
            }
        });
        // At a random time.
        thread::sleep(Duration::from_micros(round * 20));
        drop(runtime);
        thread.join().unwrap();
    }
}

/// Describes the running main future.
fn main_future() -> TaskInfo {
    task::all().into_iter().find(|task| task.id.is_main()).unwrap()
}

#[test]
fn the_main_futures_name_and_polls_end_with_it() {
    let runtime = Runtime::new().unwrap();
    let first = runtime.block_on(async {
        task::set_name("first");
        yield_now().await;
        yield_now().await;
        main_future()
    });
    let first = first.unwrap();
    assert_eq!((first.name.as_deref(), first.polls), (Some("first"), 3));
    let second = runtime.block_on(async { main_future() }).unwrap();
    assert_eq!((second.name.as_deref(), second.polls), (None, 1));
}
