//! Sets, groups, races and cancellation tokens.

use std::cell::{Cell, RefCell};
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use polyloop_executor::{
    CancellationToken, Either, Failure, FairRace, FirstFailure, JoinSet, Runtime, TaskGroup, Until,
    as_completed, gather, metrics, race, scope, sleep, spawn, timeout, try_gather, wait, yield_now,
};

/// Runs on a clock that jumps, so that no test takes the time it speaks of.
fn run<F: Future>(future: F) -> F::Output {
    Runtime::builder().virtual_time(true).build().unwrap().block_on(future).unwrap()
}

async fn after<T>(seconds: u64, value: T) -> T {
    sleep(Duration::from_secs(seconds)).await;
    value
}

/// Counts those of its clones that are alive.
#[derive(Clone)]
struct Alive(Rc<()>);

impl Alive {
    fn new() -> Alive {
        Alive(Rc::new(()))
    }

    fn others(&self) -> usize {
        Rc::strong_count(&self.0) - 1
    }
}

#[test]
fn a_set_hands_out_outputs_in_the_order_of_their_coming() {
    run(async {
        let mut set = JoinSet::new();
        for seconds in [3, 1, 2] {
            set.spawn(after(seconds, seconds));
        }
        assert_eq!(set.len(), 3);
        for expected in [(1, 1), (2, 2), (0, 3)] {
            let (number, output) = set.join_next().await.unwrap();
            assert_eq!((number, output.unwrap()), expected);
        }
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn dropping_a_set_ends_its_tasks() {
    run(async {
        let alive = Alive::new();
        let mut set = JoinSet::new();
        for _ in 0..10 {
            let alive = alive.clone();
            set.spawn(async move {
                let _alive = alive;
                pending::<()>().await;
            });
        }
        yield_now().await;
        assert_eq!(alive.others(), 10);
        drop(set);
        assert_eq!(alive.others(), 0);
        assert_eq!(metrics().n_tasks, 0);
    });
}

#[test]
fn an_aborted_member_is_handed_out_as_cancelled_and_a_panicked_one_as_such() {
    run(async {
        let mut set = JoinSet::new();
        let aborted = set.spawn(pending::<()>());
        let panicked = set.spawn(async { panic!("member") });
        set.abort(aborted);
        let (number, output) = set.join_next().await.unwrap();
        assert_eq!(number, aborted);
        assert!(output.unwrap_err().is_cancelled());
        let (number, output) = set.join_next().await.unwrap();
        assert_eq!(number, panicked);
        assert!(output.unwrap_err().is_panic());
    });
}

#[test]
fn detached_members_go_on() {
    run(async {
        let done = Rc::new(Cell::new(0));
        let mut set = JoinSet::new();
        for seconds in 1..4 {
            let done = Rc::clone(&done);
            set.spawn(async move {
                sleep(Duration::from_secs(seconds)).await;
                done.set(done.get() + 1);
            });
        }
        set.detach_all();
        assert!(set.is_empty());
        drop(set);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(done.get(), 3);
    });
}

#[test]
fn an_output_is_not_lost_when_join_next_is_dropped() {
    run(async {
        let mut set = JoinSet::new();
        set.spawn(after(5, "late"));
        assert!(timeout(Duration::from_secs(1), set.join_next()).await.is_err());
        assert_eq!(set.join_next().await.unwrap().1.unwrap(), "late");
    });
}

#[test]
fn gather_keeps_the_order_and_every_outcome() {
    run(async {
        let outputs = gather((0..4).map(async |i| {
            sleep(Duration::from_secs(4 - i)).await;
            assert_ne!(i, 2, "the third");
            i
        }))
        .await;
        let texts: Vec<String> = outputs
            .into_iter()
            .map(|output| output.map_or_else(|error| error.to_string(), |i| i.to_string()))
            .collect();
        assert_eq!(texts.len(), 4);
        assert_eq!((&*texts[0], &*texts[1], &*texts[3]), ("0", "1", "3"));
        assert!(texts[2].starts_with("task panicked"), "{texts:?}");
    });
}

#[test]
fn gather_of_nothing_is_nothing() {
    run(async { assert!(gather(std::iter::empty::<std::future::Ready<()>>()).await.is_empty()) });
}

#[test]
fn try_gather_ends_the_others_at_the_first_error() {
    run(async {
        let alive = Alive::new();
        let outcome = try_gather((0..3).map(|i| {
            let alive = alive.clone();
            async move {
                let _alive = alive;
                sleep(Duration::from_secs(1 + i)).await;
                if i == 1 { Err("second") } else { Ok(i) }
            }
        }))
        .await;
        assert!(matches!(outcome, Err(FirstFailure::Error("second"))));
        assert_eq!(alive.others(), 0);
    });
}

#[test]
fn as_completed_yields_in_the_order_of_completion() {
    run(async {
        let mut done = as_completed([5, 2, 9].map(|seconds| after(seconds, seconds)));
        let mut order = Vec::new();
        while let Some((position, output)) = done.next().await {
            order.push((position, output.unwrap()));
        }
        assert_eq!(order, [(1, 2), (0, 5), (2, 9)]);
    });
}

#[test]
fn wait_sorts_into_done_and_pending_and_loses_nothing() {
    run(async {
        let tasks = || [3, 1, 2].map(|seconds| spawn(after(seconds, seconds)));
        let first = wait(tasks(), Until::First, None).await;
        assert_eq!((first.done.len(), first.pending.len()), (1, 2));
        assert_eq!(first.done[0].0, 1);
        let rest = wait(first.pending.into_iter().map(|(_, task)| task), Until::All, None).await;
        let values: Vec<u64> = rest.done.into_iter().map(|(_, output)| output.unwrap()).collect();
        assert_eq!(values, [3, 2]);

        let limit = Some(Duration::from_millis(1_500));
        let some = wait(tasks(), Until::All, limit).await;
        assert_eq!((some.done.len(), some.pending.len()), (1, 2));
        for (position, task) in some.pending {
            assert_eq!(task.await.unwrap(), [3, 1, 2][position]);
        }
    });
}

#[test]
fn wait_ends_at_the_first_failure_if_asked() {
    run(async {
        let good = spawn(after(1, ()));
        let bad = spawn(async {
            sleep(Duration::from_secs(2)).await;
            panic!("bad");
        });
        let slow = spawn(after(3, ()));
        let waited = wait([good, bad, slow], Until::FirstFailure, None).await;
        assert_eq!((waited.done.len(), waited.pending.len()), (2, 1));
        assert!(waited.done[1].1.is_err());
    });
}

#[test]
fn a_scope_ends_after_its_children() {
    run(async {
        let trace = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| trace.borrow_mut().push(what);
        scope(async |group: &TaskGroup<()>| {
            for (seconds, what) in [(2, "second child"), (1, "first child")] {
                let trace = Rc::clone(&trace);
                group.spawn(async move {
                    sleep(Duration::from_secs(seconds)).await;
                    trace.borrow_mut().push(what);
                    Ok(())
                });
            }
            note("body");
            Ok(())
        })
        .await
        .unwrap();
        note("after");
        assert_eq!(*trace.borrow(), ["body", "first child", "second child", "after"]);
    });
}

#[test]
fn the_first_failure_ends_body_and_children_and_all_failures_are_kept() {
    run(async {
        let alive = Alive::new();
        let in_body = alive.clone();
        let error = scope(async |group: &TaskGroup<&'static str>| {
            let in_child = alive.clone();
            group.spawn(async move {
                let _alive = in_child;
                pending().await
            });
            group.spawn(async {
                sleep(Duration::from_secs(1)).await;
                Err("one second")
            });
            let _alive = in_body;
            pending::<Result<(), _>>().await
        })
        .await
        .unwrap_err();
        assert!(matches!(error.failures(), [Failure::Error("one second")]));
        assert_eq!(alive.others(), 0);
    });
}

#[test]
fn a_panicking_child_fails_its_scope() {
    run(async {
        let error = scope(async |group: &TaskGroup<&'static str>| {
            group.spawn(async { panic!("child") });
            pending::<Result<(), _>>().await
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), "task panicked: child");
    });
}

#[test]
fn dropping_a_scope_drops_its_children() {
    run(async {
        let alive = Alive::new();
        let in_child = alive.clone();
        let scope = scope(async |group: &TaskGroup<()>| {
            group.spawn(async move {
                let _alive = in_child;
                pending().await
            });
            pending::<Result<(), ()>>().await
        });
        assert!(timeout(Duration::from_secs(1), scope).await.is_err());
        assert_eq!(alive.others(), 0);
    });
}

#[test]
fn a_child_may_be_spawned_after_the_others_have_ended() {
    run(async {
        let count = Rc::new(Cell::new(0));
        scope(async |group: &TaskGroup<()>| {
            for _ in 0..3 {
                let count = Rc::clone(&count);
                group.spawn(async move {
                    count.set(count.get() + 1);
                    Ok(())
                });
                sleep(Duration::from_secs(1)).await;
            }
            assert!(group.is_empty());
            Ok(())
        })
        .await
        .unwrap();
        assert_eq!(count.get(), 3);
    });
}

#[test]
fn a_race_polls_in_written_order_and_a_fair_one_in_turns() {
    run(async {
        for _ in 0..3 {
            assert_eq!(race(ready('l'), ready('r')).await, Either::Left('l'));
        }
        let mut fair = FairRace::new();
        let mut winners = Vec::new();
        for _ in 0..4 {
            winners.push(fair.race(ready('l'), ready('r')).await);
        }
        use Either::{Left, Right};
        assert_eq!(winners, [Left('l'), Right('r'), Left('l'), Right('r')]);
        assert_eq!(fair.race(pending::<()>(), after(1, 'r')).await, Right('r'));
        assert_eq!(fair.race(after(1, 'l'), pending::<()>()).await, Left('l'));
    });
}

#[test]
fn cancelling_a_token_reaches_its_children_and_not_its_parent() {
    run(async {
        let parent = CancellationToken::new();
        let (one, other) = (parent.child(), parent.child());
        let below = one.child();
        one.cancel();
        assert!(below.is_cancelled() && one.is_cancelled());
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        let waiting = spawn(async move { other.cancelled().await });
        yield_now().await;
        parent.cancel();
        waiting.await.unwrap();
        assert!(parent.child().is_cancelled());
    });
}

#[test]
fn a_token_is_cancelled_from_another_thread() {
    polyloop_executor::run(async {
        let token = CancellationToken::new();
        let far = token.clone();
        let thread = std::thread::spawn(move || far.cancel());
        token.cancelled().await;
        thread.join().unwrap();
    })
    .unwrap();
}

#[test]
fn run_until_cancelled_tells_which_came_first() {
    run(async {
        let token = CancellationToken::new();
        assert_eq!(token.run_until_cancelled(after(1, 7)).await, Some(7));
        let canceller = token.clone();
        drop(spawn(async move {
            sleep(Duration::from_secs(1)).await;
            canceller.cancel();
        }));
        assert_eq!(token.run_until_cancelled(pending::<()>()).await, None);
        assert_eq!(token.run_until_cancelled(ready(7)).await, None);
    });
}

#[test]
fn a_dropped_wait_for_a_token_leaves_no_waker() {
    run(async {
        let token = CancellationToken::new();
        for _ in 0..1_000 {
            assert!(timeout(Duration::ZERO, token.cancelled()).await.is_err());
        }
        let before = metrics().n_polls;
        token.cancel();
        yield_now().await;
        assert!(metrics().n_polls - before < 5);
    });
}
