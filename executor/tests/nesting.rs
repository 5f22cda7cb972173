//! Aim: values that own the next one of their kind may be nested to any depth on any stack.

mod util;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::thread;

use polyloop_executor::{
    AbortOnDrop, Handle, JoinHandle, JoinSet, Runtime, run, spawn, task, yield_now,
};
use util::OnDrop;

/// Deep enough to overflow eight MiB if each level took 90 bytes.
const DEPTH: usize = 100_000;

/// Runs `f` on a thread with the smallest stack that the library needs.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    let size = if cfg!(debug_assertions) { 192 * 1_024 } else { 64 * 1_024 };
    thread::Builder::new().stack_size(size).spawn(f).unwrap().join().unwrap();
}

/// Spawns tasks, each of which owns the result of `own` for the next task's handle.
fn chain<T: 'static>(depth: usize, own: impl Fn(JoinHandle<()>) -> T) -> JoinHandle<()> {
    let mut last = spawn(pending::<()>());
    for _ in 0..depth {
        let owned = own(last);
        last = spawn(async move {
            let _owned = owned;
            pending::<()>().await
        });
    }
    last
}

#[test]
fn a_chain_of_tasks_that_abort_each_other_may_have_any_length() {
    on_a_small_stack(|| {
        run(async {
            let first = chain(DEPTH, JoinHandle::abort_on_drop);
            yield_now().await;
            first.abort();
            assert_eq!(
                task::all().len(),
                2,
                "only the main future and the first, unjoined, are left"
            );
            assert!(first.await.unwrap_err().is_cancelled());
        })
        .unwrap();
    });
}

#[test]
fn a_million_tasks_that_abort_each_other_end() {
    run(async {
        drop(chain(1_000_000, JoinHandle::abort_on_drop).abort_on_drop());
        assert_eq!(polyloop_executor::metrics().tasks, 0);
    })
    .unwrap();
}

#[test]
fn a_chain_is_dropped_with_its_runtime() {
    on_a_small_stack(|| {
        let runtime = Runtime::new().unwrap();
        let first = runtime.enter(|| chain(DEPTH, JoinHandle::abort_on_drop));
        drop(runtime);
        drop(first);
    });
}

#[test]
fn a_chain_of_sets_of_tasks_may_have_any_length() {
    on_a_small_stack(|| {
        run(async {
            let mut last = JoinSet::new();
            for _ in 0..DEPTH {
                let owned = last;
                last = JoinSet::new();
                last.spawn(async move {
                    let _owned = owned;
                    pending::<()>().await
                });
            }
            drop(last);
            assert_eq!(polyloop_executor::metrics().tasks, 0);
        })
        .unwrap();
    });
}

#[test]
fn a_chain_of_tasks_joined_from_elsewhere_may_have_any_length() {
    on_a_small_stack(|| {
        run(async {
            let handle = Handle::current().unwrap();
            let mut last = handle.spawn(pending::<()>()).abort_on_drop();
            for _ in 0..DEPTH {
                let owned = last;
                last = handle
                    .spawn(async move {
                        let _owned = owned;
                        pending::<()>().await
                    })
                    .abort_on_drop();
            }
            while polyloop_executor::metrics().tasks < DEPTH + 1 {
                yield_now().await;
            }
            drop(last);
            assert_eq!(polyloop_executor::metrics().tasks, 0);
        })
        .unwrap();
    });
}

/// An output that owns the handle of the task whose output owns the next handle.
struct Link(#[expect(dead_code, reason = "it is there to be dropped")] Option<JoinHandle<Link>>);

async fn chain_of_outputs(depth: usize) -> JoinHandle<Link> {
    let mut last = spawn(async { Link(None) });
    for _ in 0..depth {
        yield_now().await;
        let owned = last;
        last = spawn(async move { Link(Some(owned)) });
    }
    yield_now().await;
    last
}

#[test]
fn outputs_that_own_the_next_handle_are_dropped_at_any_depth() {
    on_a_small_stack(|| {
        run(async {
            drop(chain_of_outputs(DEPTH).await);
            assert_eq!(polyloop_executor::metrics().tasks, 0);
        })
        .unwrap();
    });
}

#[test]
fn outputs_that_own_the_next_handle_are_dropped_at_any_depth_after_their_loop() {
    on_a_small_stack(|| {
        let runtime = Runtime::new().unwrap();
        let first = runtime.block_on(chain_of_outputs(DEPTH)).unwrap();
        drop(runtime);
        drop(first);
    });
}

#[test]
fn callbacks_that_abort_the_next_task_may_form_a_chain_of_any_length() {
    on_a_small_stack(|| {
        run(async {
            let ended = Rc::new(Cell::new(0));
            let mut last = spawn(pending::<()>());
            for _ in 0..DEPTH {
                let (next, ended) = (last, ended.clone());
                last = spawn(pending::<()>());
                last.on_done(move |_| {
                    ended.set(ended.get() + 1);
                    next.abort();
                });
            }
            last.abort();
            assert_eq!(ended.get(), DEPTH);
        })
        .unwrap();
    });
}

#[test]
fn sixteen_aborts_nest_and_deeper_ones_run_before_the_sixteenth_returns() {
    run(async {
        let notes = Rc::new(RefCell::new(Vec::new()));
        let mut next: Option<JoinHandle<()>> = None;
        for level in (1..=20).rev() {
            let (aborted, notes) = (next.take(), notes.clone());
            let note = OnDrop(move || {
                notes.borrow_mut().push(("starts", level));
                if let Some(aborted) = &aborted {
                    aborted.abort();
                }
                notes.borrow_mut().push(("ends", level));
            });
            next = Some(spawn(async move {
                let _note = note;
                pending::<()>().await
            }));
        }
        next.unwrap().abort();
        let mut expected: Vec<_> = (1..=16).map(|level| ("starts", level)).collect();
        expected.push(("ends", 16));
        expected.extend((17..=20).flat_map(|level| [("starts", level), ("ends", level)]));
        expected.extend((1..=15).rev().map(|level| ("ends", level)));
        assert_eq!(*notes.borrow(), expected);
    })
    .unwrap();
}

#[test]
fn a_panic_in_a_nested_destructor_does_not_prevent_the_other_aborts() {
    run(async {
        let left = Rc::new(RefCell::new(Vec::new()));
        let mut last: Option<AbortOnDrop<()>> = None;
        for i in 0..10 {
            let (owned, left) = (last.take(), left.clone());
            let task = spawn(async move {
                let _owned = owned;
                let _bomb = OnDrop(move || {
                    left.borrow_mut().push(i);
                    std::panic::resume_unwind(Box::new("a destructor that panics"));
                });
                pending::<()>().await
            });
            last = Some(task.abort_on_drop());
        }
        yield_now().await;
        drop(last);
        assert_eq!(*left.borrow(), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    })
    .unwrap();
}
