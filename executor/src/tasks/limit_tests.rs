//! The limits of a loop: exceeding one is an error or a panic of the caller, not of the loop. The tests use loops that are
//! smaller or older than real ones.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::tasks::numbers::LAST_GENERATION;
use crate::{
    GroupError, Handle, JoinHandle, JoinSet, Runtime, TaskGroup, call_soon, metrics, spawn,
    yield_now,
};

const LIMIT: Duration = Duration::from_secs(60);

/// Creates a loop with a maximum of `n_tasks` tasks.
fn small(n_tasks: usize) -> Runtime {
    let runtime = Runtime::new().unwrap();
    runtime.event_loop().limit_tasks(1 + n_tasks);
    runtime
}

/// Makes a loop whose slots have two generations left each.
fn old() -> Runtime {
    let runtime = Runtime::new().unwrap();
    runtime.event_loop().age_tasks(LAST_GENERATION - 2);
    runtime
}

/// Returns the message with which `f` panics.
fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).map(drop).unwrap_err();
    payload.downcast_ref::<String>().expect("a message").clone()
}

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_spawn_without_room_panics_where_it_was_asked_for_and_ends_nothing_else() {
    let runtime = small(3);
    runtime
        .block_on(async {
            let held = spawn(pending::<()>()).abort_on_drop();
            let other = spawn(async { 7 });
            let last = spawn(async {});
            // The refused future owns handles, and uses the loop when it is dropped.
            let refused = async move {
                let _held = held;
                pending::<()>().await
            };
            assert!(panic_of(|| spawn(refused)).contains("16,777,215"));
            assert_eq!(metrics().tasks, 2, "the task that the refused future held is aborted");
            assert_eq!(other.await.unwrap(), 7);
            last.await.unwrap();
            assert_eq!(spawn(async { 8 }).await.unwrap(), 8, "there is room again");
        })
        .unwrap();
}

#[test]
fn a_future_that_is_refused_and_panics_when_dropped_does_not_abort_the_process() {
    let runtime = small(0);
    let bomb = OnDrop(|| std::panic::resume_unwind(Box::new("a destructor that panics")));
    let refused = async move {
        let _bomb = bomb;
    };
    assert!(panic_of(|| runtime.spawn(refused)).contains("16,777,215"));
}

#[test]
fn a_spawn_from_elsewhere_without_room_is_an_error_of_its_handle() {
    let runtime = small(1);
    let handle = runtime.handle();
    let (dropped, is_dropped) = mpsc::channel();
    runtime.spawn(pending::<()>());
    let thread = thread::spawn(move || {
        let note = OnDrop(move || dropped.send(thread::current().id()).unwrap());
        let mut refused = handle.spawn(async move {
            let _note = note;
        });
        let error = refused.join_timeout(LIMIT).unwrap().unwrap_err();
        // The callback is dropped, as without a loop.
        handle.call_soon(|| unreachable!());
        error
    });
    while !thread.is_finished() {
        runtime.turn(Some(Duration::from_millis(1)), Duration::MAX).unwrap();
    }
    let error = thread.join().unwrap();
    assert!(error.is_cancelled() && !error.is_panic());
    assert!(error.to_string().contains("16,777,215"), "{error}");
    assert_eq!(format!("{error:?}"), "JoinError::Refused");
    assert!(error.try_into_panic().is_err());
    assert_eq!(is_dropped.recv().unwrap(), thread::current().id());
}

#[test]
fn a_handle_that_is_awaited_elsewhere_needs_no_room_on_the_tasks_loop() {
    let runtime = small(2);
    let (mut first, second) = (runtime.spawn(yield_now()), runtime.spawn(yield_now()));
    let thread = thread::spawn(move || first.join_timeout(LIMIT).unwrap().is_ok());
    while !thread.is_finished() {
        runtime.turn(Some(Duration::from_millis(1)), Duration::MAX).unwrap();
    }
    assert!(thread.join().unwrap());
    drop(second);
}

#[test]
fn sets_groups_and_calls_pass_the_panic_on_and_stay_whole() {
    let runtime = small(2);
    runtime
        .block_on(async {
            let mut set = JoinSet::new();
            set.spawn(async { 1 });
            set.spawn(async { 2 });
            let (held, dropped) = (Rc::new(()), Rc::new(Cell::new(0)));
            let (inner, count) = (held.clone(), dropped.clone());
            panic_of(|| {
                set.spawn(async move {
                    let _held = (inner, OnDrop(move || count.set(count.get() + 1)));
                    3
                })
            });
            assert_eq!((Rc::strong_count(&held), dropped.get()), (1, 0), "it was never begun");
            panic_of(|| call_soon(|| unreachable!()));
            let mut sum = 0;
            while let Some(outcome) = set.join_next().await {
                sum += outcome.unwrap();
            }
            assert_eq!(sum, 3);

            let ended = Rc::new(Cell::new(0));
            let outcome: Result<(), GroupError<()>> =
                TaskGroup::scope(async |group: &TaskGroup<()>| {
                    for _ in 0..2 {
                        let ended = ended.clone();
                        group.spawn(async move {
                            yield_now().await;
                            ended.set(ended.get() + 1);
                            Ok(())
                        });
                    }
                    panic_of(|| group.spawn(async { Ok(()) }));
                    Ok(())
                })
                .await;
            assert!(outcome.is_ok());
            assert_eq!(ended.get(), 2);
        })
        .unwrap();
}

#[test]
fn a_loop_whose_slots_are_spent_goes_on_in_others() {
    let runtime = old();
    let mut seen = HashSet::new();
    let mut handles: Vec<JoinHandle<u32>> = Vec::new();
    for i in 0..10 {
        let (main, task) = runtime
            .block_on(async {
                let main = crate::task::current().unwrap();
                assert!(main.is_main());
                let task = spawn(async move { i });
                let id = task.id().unwrap();
                assert!(!id.is_main());
                if i % 2 == 0 {
                    assert_eq!(task.await.unwrap(), i);
                } else {
                    yield_now().await;
                    handles.push(task);
                }
                (main, id)
            })
            .unwrap();
        assert!(seen.insert(main) && seen.insert(task), "a number came twice");
    }
    drop(runtime);
    let outputs = handles.into_iter().map(|mut task| task.join_timeout(LIMIT).unwrap().unwrap());
    assert_eq!(outputs.collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
}

#[test]
fn a_stale_handle_finds_no_task_of_a_later_loop() {
    let runtime = old();
    let owner = runtime.event_loop().number();
    let stale: Vec<JoinHandle<Rc<u32>>> = (0..3)
        .map(|i| {
            // An unfinished task whose handle outlives it.
            let task = runtime.spawn(async move {
                pending::<()>().await;
                Rc::new(i)
            });
            runtime.block_on(yield_now()).unwrap();
            task.abort();
            runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
            task
        })
        .collect();
    runtime.block_on(yield_now()).unwrap();
    drop(runtime);
    // Its number is not reused: no generation is left for another loop.
    let later: Vec<Runtime> = (0..8).map(|_| Runtime::new().unwrap()).collect();
    for runtime in &later {
        assert_ne!(runtime.event_loop().number(), owner);
    }
    thread::spawn(|| {
        let runtime = Runtime::new().unwrap();
        let tasks: Vec<_> = (0..4).map(|i| runtime.spawn(async move { i })).collect();
        runtime.block_on(yield_now()).unwrap();
        drop(tasks);
    })
    .join()
    .unwrap();
    for task in stale {
        assert!(later[0].block_on(task).unwrap().unwrap_err().is_cancelled());
    }
}

#[test]
fn a_handle_of_a_full_loop_that_is_dropped_is_harmless() {
    let runtime = small(1);
    let handle = runtime.handle();
    runtime.spawn(pending::<()>());
    drop(thread::spawn(move || drop(handle.spawn(async {}))).join());
    runtime.turn(Some(Duration::ZERO), Duration::MAX).unwrap();
    assert_eq!(runtime.enter(|| (Handle::current().is_some(), metrics().tasks)), (true, 1));
}
