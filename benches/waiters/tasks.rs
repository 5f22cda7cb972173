//! One task that waits for many others, with each of the combinators. The tasks run during the wait. Unless the
//! name says so, spawning is not measured.

use std::time::{Duration, Instant};

use polyloop::future::{Until, as_completed, try_gather, wait};
use polyloop::{JoinSet, Runtime, spawn};
use polyloop::{TaskGroup, gather};

use super::curve::Curve;

const RUNTIME: &str = "polyloop";

pub(crate) const CURVES: &[Curve] = &[
    Curve { name: "tasks: wait for all", runtime: RUNTIME, measure: wait_all },
    Curve { name: "tasks: wait for the first", runtime: RUNTIME, measure: wait_first },
    Curve { name: "tasks: one join handle after the other", runtime: RUNTIME, measure: joins },
    Curve { name: "tasks: join set", runtime: RUNTIME, measure: join_set },
    Curve { name: "tasks: spawn and gather", runtime: RUNTIME, measure: gathered },
    Curve { name: "tasks: spawn and try_gather", runtime: RUNTIME, measure: try_gathered },
    Curve { name: "tasks: spawn and as_completed", runtime: RUNTIME, measure: completed },
    Curve { name: "tasks: spawn the children of a scope", runtime: RUNTIME, measure: children },
];

fn run<R>(future: impl Future<Output = R>) -> R {
    Runtime::new().unwrap().block_on(future).unwrap()
}

fn wait_all(n: usize) -> (Duration, usize) {
    run(async {
        let tasks: Vec<_> = (0..n).map(|i| spawn(async move { i })).collect();
        let start = Instant::now();
        let waited = wait(tasks, Until::All, None).await;
        let took = start.elapsed();
        assert_eq!(waited.done.len(), n);
        (took, n)
    })
}

fn wait_first(n: usize) -> (Duration, usize) {
    run(async {
        let tasks: Vec<_> = (0..n).map(|i| spawn(async move { i })).collect();
        let start = Instant::now();
        let waited = wait(tasks, Until::First, None).await;
        let took = start.elapsed();
        assert!(!waited.done.is_empty());
        drop(waited);
        (took, n)
    })
}

fn joins(n: usize) -> (Duration, usize) {
    run(async {
        let tasks: Vec<_> = (0..n).map(|i| spawn(async move { i })).collect();
        let start = Instant::now();
        for task in tasks {
            task.await.unwrap();
        }
        (start.elapsed(), n)
    })
}

fn join_set(n: usize) -> (Duration, usize) {
    run(async {
        let mut set = JoinSet::new();
        for i in 0..n {
            set.spawn(async move { i });
        }
        let start = Instant::now();
        while let Some(output) = set.join_next().await {
            output.unwrap();
        }
        (start.elapsed(), n)
    })
}

fn gathered(n: usize) -> (Duration, usize) {
    run(async {
        let start = Instant::now();
        let outputs = gather((0..n).map(|i| async move { i })).await;
        let took = start.elapsed();
        assert_eq!(outputs.len(), n);
        (took, n)
    })
}

fn try_gathered(n: usize) -> (Duration, usize) {
    run(async {
        let start = Instant::now();
        let values = try_gather((0..n).map(|i| async move { Ok::<_, ()>(i) })).await;
        let took = start.elapsed();
        assert_eq!(values.unwrap().len(), n);
        (took, n)
    })
}

fn completed(n: usize) -> (Duration, usize) {
    run(async {
        let start = Instant::now();
        let mut outputs = as_completed((0..n).map(|i| async move { i }));
        while let Some(output) = outputs.join_next().await {
            output.unwrap();
        }
        (start.elapsed(), n)
    })
}

fn children(n: usize) -> (Duration, usize) {
    run(async {
        let start = Instant::now();
        let outcome = TaskGroup::scope(async |group: &TaskGroup<()>| {
            for _ in 0..n {
                group.spawn(async { Ok(()) });
            }
            Ok(())
        });
        outcome.await.unwrap();
        (start.elapsed(), n)
    })
}
