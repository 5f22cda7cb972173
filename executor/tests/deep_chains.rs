//! Aim: what owns the next one of its kind is dropped at any depth, on any stack.

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::thread;

use polyloop_executor::{
    CancelScope, JoinSet, TaskGroup, cancel_scope, metrics, run, scope, spawn, yield_now,
};

/// Runs `f` where a recursion for each link of a chain would have no room.
fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(256 * 1024).spawn(f).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_join_sets_is_dropped() {
    on_a_small_stack(|| {
        run(async {
            const N: usize = 200_000;
            let witness = Rc::new(());
            let mut chain = JoinSet::new();
            for _ in 0..N {
                let (next, held) = (chain, Rc::clone(&witness));
                chain = JoinSet::new();
                chain.spawn(async move {
                    let _owned = (next, held);
                    pending::<()>().await;
                });
            }
            yield_now().await;
            assert_eq!(metrics().n_tasks, N);
            drop(chain);
            yield_now().await;
            assert_eq!((metrics().n_tasks, Rc::strong_count(&witness)), (0, 1));
        })
        .unwrap();
    });
}

type Level = Pin<Box<dyn Future<Output = Result<(), ()>>>>;

/// Opens a scope whose child opens a scope, and so on.
fn nested_scopes(depth: usize, open: Rc<Cell<usize>>, witness: Rc<()>) -> Level {
    Box::pin(async move {
        let outcome = scope(async |group: &TaskGroup<()>| {
            let _held = Rc::clone(&witness);
            open.set(open.get() + 1);
            if depth > 1 {
                group.spawn(nested_scopes(depth - 1, Rc::clone(&open), Rc::clone(&witness)));
            }
            pending().await
        });
        outcome.await.map_err(drop)
    })
}

#[test]
fn a_chain_of_scopes_is_dropped_and_cancelled() {
    const N: usize = 3_000;
    for is_cancelled in [false, true] {
        on_a_small_stack(move || {
            run(async {
                let (open, witness) = (Rc::new(Cell::new(0)), Rc::new(()));
                let handle = Rc::new(Cell::new(None::<CancelScope>));
                let outermost = spawn({
                    let (open, witness, handle) = (open.clone(), witness.clone(), handle.clone());
                    async move {
                        let outcome = cancel_scope(async |scope| {
                            handle.set(Some(scope.clone()));
                            nested_scopes(N, open, witness).await
                        });
                        outcome.await.map(drop)
                    }
                });
                while open.get() < N {
                    yield_now().await;
                }
                if is_cancelled {
                    handle.take().unwrap().cancel();
                    outermost.await.unwrap().unwrap_err();
                } else {
                    outermost.abort();
                    outermost.await.unwrap_err();
                }
                yield_now().await;
                assert_eq!((metrics().n_tasks, Rc::strong_count(&witness)), (0, 1));
            })
            .unwrap();
        });
    }
}
