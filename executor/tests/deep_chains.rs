//! Aim: values that own the next one of their kind are dropped at any depth, on any stack.

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    BlockingPool, CancelScope, Handle, JoinHandle, JoinSet, TaskGroup, metrics, run, spawn,
    yield_now,
};

/// Runs `f` on a stack that is too small for a recursion over all links of a chain.
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
            assert_eq!(metrics().tasks, N);
            drop(chain);
            yield_now().await;
            assert_eq!((metrics().tasks, Rc::strong_count(&witness)), (0, 1));
        })
        .unwrap();
    });
}

type Level = Pin<Box<dyn Future<Output = Result<(), ()>>>>;

/// Opens a scope whose child opens the next scope.
fn nested_scopes(depth: usize, open: Rc<Cell<usize>>, witness: Rc<()>) -> Level {
    Box::pin(async move {
        let outcome = TaskGroup::scope(async |group: &TaskGroup<()>| {
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
                        let outcome = CancelScope::new().run(async |scope| {
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
                assert_eq!((metrics().tasks, Rc::strong_count(&witness)), (0, 1));
            })
            .unwrap();
        });
    }
}

/// Counts itself when it is dropped.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn another(&self) -> Count {
        Count(Arc::clone(&self.0))
    }
}

/// An output that owns the handle or set of the next output of its kind.
struct Link<C> {
    _next: Option<C>,
    _count: Count,
}

struct JobLink(#[expect(dead_code, reason = "it is dropped")] Link<JoinHandle<JobLink>>);
struct SetLink(#[expect(dead_code, reason = "it is dropped")] Link<JoinSet<SetLink>>);

#[test]
fn a_chain_of_outputs_of_blocking_jobs_is_dropped() {
    const N: usize = 100_000;
    let count = Count::default();
    on_a_small_stack(move || {
        let pool = BlockingPool::new(1);
        let mut chain = None;
        for _ in 0..N {
            let (next, count) = (chain.take(), count.another());
            chain = Some(pool.spawn(move || JobLink(Link { _next: next, _count: count })));
        }
        pool.shutdown(Duration::from_secs(60)).unwrap();
        drop(chain);
        assert_eq!(count.0.load(Ordering::Relaxed), N);
    });
}

#[test]
fn a_chain_of_outputs_for_other_threads_is_dropped_with_its_last_owner() {
    const N: usize = 5_000;
    let count = Count::default();
    on_a_small_stack(move || {
        let chain = run(async {
            let handle = Handle::current().unwrap();
            let mut chain = None;
            for _ in 0..N {
                let (next, count) = (chain.take(), count.another());
                let task =
                    handle.spawn(async move { JobLink(Link { _next: next, _count: count }) });
                while !task.is_finished() {
                    yield_now().await;
                }
                chain = Some(task);
            }
            chain
        });
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        drop(chain.unwrap());
        assert_eq!(count.0.load(Ordering::Relaxed), N);
    });
}

#[test]
fn a_chain_of_outputs_in_join_sets_is_dropped() {
    const N: usize = 100_000;
    let count = Count::default();
    on_a_small_stack(move || {
        run(async {
            let mut chain = None;
            for _ in 0..N {
                let (next, count) = (chain.take(), count.another());
                let mut set = JoinSet::new();
                set.spawn(async move { SetLink(Link { _next: next, _count: count }) });
                yield_now().await;
                chain = Some(set);
            }
            assert_eq!(count.0.load(Ordering::Relaxed), 0);
            drop(chain);
            assert_eq!(count.0.load(Ordering::Relaxed), N);
        })
        .unwrap();
    });
}

/// Requests the output of one finished task after another, each in the callback of the previous one.
fn ask_from(handles: Rc<Vec<JoinHandle<usize>>>, position: usize, n_calls: Rc<Cell<usize>>) {
    let Some(handle) = handles.get(position) else { return };
    let others = Rc::clone(&handles);
    handle.on_done(move |output| {
        // In order, each exactly once.
        assert_eq!(*output.as_ref().unwrap(), n_calls.get());
        n_calls.set(n_calls.get() + 1);
        ask_from(others, position + 1, n_calls);
    });
}

#[test]
fn nested_callbacks_of_finished_tasks_are_called_before_the_first_returns() {
    on_a_small_stack(|| {
        run(async {
            const N: usize = 50_000;
            let handles: Vec<_> = (0..N).map(|i| spawn(async move { i })).collect();
            let handles = Rc::new(handles);
            while !handles[N - 1].is_finished() {
                yield_now().await;
            }
            let n_calls = Rc::new(Cell::new(0));
            ask_from(Rc::clone(&handles), 0, Rc::clone(&n_calls));
            assert_eq!(n_calls.get(), N);
            // The outputs have not moved.
            let handles = Rc::into_inner(handles).expect("the callbacks have been dropped");
            for (i, handle) in handles.into_iter().enumerate() {
                assert_eq!(handle.await.unwrap(), i);
            }
        })
        .unwrap();
    });
}

#[test]
fn shallowly_nested_callbacks_are_called_at_once() {
    run(async {
        let tasks = Rc::new([0, 1, 2].map(|i| spawn(async move { i })));
        yield_now().await;
        let order = Rc::new(Cell::new(Vec::new()));
        let note = |order: &Cell<Vec<_>>, what| {
            let mut list = order.take();
            list.push(what);
            order.set(list);
        };
        let (seen, others) = (Rc::clone(&order), Rc::clone(&tasks));
        tasks[0].on_done(move |_| {
            note(&seen, "first");
            let inner = Rc::clone(&seen);
            others[1].on_done(move |_| note(&inner, "second"));
            note(&seen, "after the second");
        });
        note(&order, "after the first");
        assert_eq!(order.take(), ["first", "second", "after the second", "after the first"]);
    })
    .unwrap();
}
