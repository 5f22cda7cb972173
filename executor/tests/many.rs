//! Sets, groups, races and cancellation tokens.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use polyloop_executor::{
    CancellationToken, Either, Failure, JoinSet, Runtime, TaskGroup, Until, as_completed, gather,
    join, metrics, now, or, race, race_all, shielded, sleep, spawn, spawn_blocking, timeout,
    try_gather, try_join, wait, wait_while, yield_now,
};

mod util;

use util::block_on_elsewhere;

/// Runs `future` in virtual time, so that long sleeps take no real time.
fn run<F: Future>(future: F) -> F::Output {
    Runtime::builder().virtual_time(true).build().unwrap().block_on(future).unwrap()
}

async fn after<T>(seconds: u64, value: T) -> T {
    sleep(Duration::from_secs(seconds)).await;
    value
}

/// Counts its clones that are alive.
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
fn a_set_returns_outputs_in_the_order_of_completion() {
    run(async {
        let mut set = JoinSet::new();
        for seconds in [3, 1, 2] {
            set.spawn(after(seconds, seconds));
        }
        assert_eq!(set.len(), 3);
        for expected in [(1, 1), (2, 2), (0, 3)] {
            let (number, output) = set.join_next_with_number().await.unwrap();
            assert_eq!((number, output.unwrap()), expected);
        }
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn dropping_a_set_aborts_its_tasks() {
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
        assert_eq!(metrics().tasks, 0);
    });
}

#[test]
fn an_aborted_member_is_returned_as_cancelled_and_a_panicked_one_as_panicked() {
    run(async {
        let mut set = JoinSet::new();
        let aborted = set.spawn(pending::<()>());
        let panicked = set.spawn(async { panic!("member") });
        set.abort(aborted);
        let (number, output) = set.join_next_with_number().await.unwrap();
        assert_eq!(number, aborted);
        assert!(output.unwrap_err().is_cancelled());
        let (number, output) = set.join_next_with_number().await.unwrap();
        assert_eq!(number, panicked);
        assert!(output.unwrap_err().is_panic());
    });
}

#[test]
fn detached_members_continue() {
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
fn a_reused_set_returns_no_output_of_detached_tasks() {
    run(async {
        let alive = Alive::new();
        let mut set = JoinSet::new();
        for _ in 0..3 {
            let output = alive.clone();
            set.spawn(async move {
                sleep(Duration::from_secs(1)).await;
                output
            });
        }
        // One has already finished, and its output is dropped with the others.
        let output = alive.clone();
        set.spawn(async { output });
        yield_now().await;
        set.detach_all();
        assert_eq!(alive.others(), 3);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(alive.others(), 0);
        assert!(set.try_join_next().is_none());
        assert!(set.join_next().await.is_none());
        let own = alive.clone();
        let number = set.spawn(async { own });
        assert_eq!(set.join_next_with_number().await.unwrap().0, number);
        assert!(set.join_next().await.is_none());
    });
}

#[test]
fn an_output_is_not_lost_when_join_next_is_dropped() {
    run(async {
        let mut set = JoinSet::new();
        set.spawn(after(5, "late"));
        assert!(timeout(Duration::from_secs(1), set.join_next()).await.is_err());
        assert_eq!(set.join_next().await.unwrap().unwrap(), "late");
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
fn gather_of_nothing_is_empty() {
    run(async { assert!(gather(std::iter::empty::<std::future::Ready<()>>()).await.is_empty()) });
}

#[test]
fn try_gather_aborts_the_others_at_the_first_error() {
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
        assert!(matches!(outcome, Err(Failure::Error("second"))));
        assert_eq!(alive.others(), 0);
    });
}

#[test]
fn a_set_is_collected_extended_and_streamed() {
    run(async {
        let mut set: JoinSet<u64> =
            [3, 1].map(|seconds| after(seconds, seconds)).into_iter().collect();
        set.extend([after(2, 2)]);
        assert_eq!((set.len(), set.size_hint()), (3, (3, Some(3))));
        let mut order = Vec::new();
        while let Some(output) = poll_fn(|cx| Pin::new(&mut set).poll_next(cx)).await {
            order.push(output.unwrap());
        }
        assert_eq!(order, [1, 2, 3]);
        assert!(set.is_empty());
    });
}

#[test]
fn as_completed_yields_in_the_order_of_completion() {
    run(async {
        let mut done = as_completed([5, 2, 9].map(|seconds| after(seconds, seconds)));
        let mut order = Vec::new();
        while let Some((position, output)) = done.join_next_with_number().await {
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
fn wait_ends_at_the_first_failure_if_requested() {
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
fn wait_sees_every_task_however_many_there_are() {
    run(async {
        // More than the budget of one poll, and the first of them never finish.
        let tasks = || {
            (0..1_000_u64).map(|i| {
                spawn(async move {
                    if i < 900 {
                        pending::<()>().await;
                    }
                    after(i, i).await
                })
            })
        };
        let before = metrics().polls;
        let first = wait(tasks(), Until::First, None).await;
        assert_eq!((first.done.len(), first.pending.len()), (1, 999));
        assert_eq!(first.done[0].0, 900);
        let limit = Some(Duration::from_secs(50));
        let rest = first.pending.into_iter().map(|(_, task)| task);
        let rest = wait(rest, Until::All, limit).await;
        assert_eq!((rest.done.len(), rest.pending.len()), (50, 949));
        // A poll for each task, some for each completion, and few for the checks.
        let n_polls = metrics().polls - before;
        assert!(n_polls < 2_000, "{n_polls}");
    });
}

#[test]
fn wait_of_nothing_returns_at_once() {
    run(async {
        let none = std::iter::empty::<polyloop_executor::JoinHandle<()>>();
        let waited = wait(none, Until::First, Some(Duration::MAX)).await;
        assert!(waited.done.is_empty() && waited.pending.is_empty());
    });
}

#[test]
fn wait_takes_any_limit() {
    run(async {
        for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let start = now();
            let waited = wait([spawn(after(1, 7))], Until::All, Some(limit)).await;
            assert_eq!(waited.done.len(), usize::from(limit == Duration::MAX));
            assert_eq!(now() - start, limit.min(Duration::from_secs(1)));
        }
    });
}

#[test]
fn wait_works_for_tasks_of_other_threads() {
    polyloop_executor::run(async {
        let tasks = (0..10).map(|i| spawn_blocking(move || i));
        let mut waited = wait(tasks, Until::All, None).await;
        let values = waited.done.drain(..).map(|(_, output)| output.unwrap());
        assert!(values.eq(0..10));
    })
    .unwrap();
}

#[test]
fn wait_while_counts_returned_errors() {
    run(async {
        let task = |seconds, result: Result<(), &'static str>| spawn(after(seconds, result));
        let tasks = [task(1, Ok(())), task(3, Ok(())), task(2, Err("second"))];
        let start = now();
        let waited = wait_while(tasks, |output| matches!(output, Ok(Ok(()))), None).await;
        assert_eq!(now() - start, Duration::from_secs(2));
        let positions: Vec<usize> = waited.done.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [0, 2]);
        assert_eq!(waited.pending[0].0, 1);
    });
}

#[test]
fn a_dropped_wait_leaves_its_tasks_running() {
    run(async {
        let count = Rc::new(Cell::new(0));
        let tasks = [1, 2].map(|seconds| {
            let count = Rc::clone(&count);
            spawn(async move {
                sleep(Duration::from_secs(seconds)).await;
                count.set(count.get() + 1);
            })
        });
        let waiting = wait(tasks, Until::All, None);
        assert!(timeout(Duration::from_millis(500), waiting).await.is_err());
        sleep(Duration::from_secs(5)).await;
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn gathered_tasks_are_aborted_when_gather_is_dropped() {
    run(async {
        let alive = Alive::new();
        let futures = || {
            let alive = &alive;
            (0..3).map(move |_| {
                let alive = alive.clone();
                async move {
                    let _alive = alive;
                    pending::<Result<(), ()>>().await
                }
            })
        };
        let second = Duration::from_secs(1);
        assert!(timeout(second, gather(futures())).await.is_err());
        assert!(timeout(second, try_gather(futures())).await.is_err());
        let mut done = as_completed(futures());
        assert!(timeout(second, done.join_next()).await.is_err());
        assert_eq!(alive.others(), 3);
        drop(done);
        assert_eq!(alive.others(), 0);
        assert_eq!(metrics().tasks, 0);
    });
}

#[test]
fn try_gather_keeps_the_order_and_distinguishes_panics_from_errors() {
    run(async {
        let values = try_gather([3, 1, 2].map(|s| after(s, Ok::<_, ()>(s)))).await.unwrap();
        assert_eq!(values, [3, 1, 2]);
        let panicking = [async { panic!("the only one") }];
        let failure: Failure<()> = try_gather::<_, (), _>(panicking).await.unwrap_err();
        assert!(matches!(failure, Failure::Panicked(_)), "{failure:?}");
    });
}

#[test]
fn join_awaits_all_concurrently_and_keeps_the_order() {
    run(async {
        let start = now();
        let text = String::from("borrowed");
        let outputs = join!(after(3, 'a'), after(1, 2), async { text.as_str() }, ready(()));
        assert_eq!(outputs, ('a', 2, "borrowed", ()));
        assert_eq!(now() - start, Duration::from_secs(3));
        assert_eq!(join!(ready(1),), (1,));
        // Nested in its arguments, and with any kind of expression.
        assert_eq!(
            join!(async { join!(ready(1), ready(2)) }, after(after(1, 1).await, 2)),
            ((1, 2), 2)
        );
    });
}

#[test]
fn join_polls_in_written_order_and_drops_finished_futures() {
    run(async {
        let trace = Rc::new(RefCell::new(Vec::new()));
        let branch = |name: &'static str, n_polls: u32| {
            let trace = Rc::clone(&trace);
            let alive = OnDrop(Rc::clone(&trace), name);
            let mut left = n_polls;
            poll_fn(move |cx| {
                let _alive = &alive;
                trace.borrow_mut().push(name.to_owned());
                left = left.checked_sub(1).expect("not polled after it was ready");
                cx.waker().wake_by_ref();
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        join!(branch("a", 2), branch("b", 1), branch("c", 3));
        let expected = ["a", "b", "b dropped", "c", "a", "a dropped", "c", "c", "c dropped"];
        assert_eq!(*trace.borrow(), expected);
    });
}

struct OnDrop(Rc<RefCell<Vec<String>>>, &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.borrow_mut().push(format!("{} dropped", self.1));
    }
}

#[test]
fn try_join_ends_at_the_first_error_and_drops_the_others() {
    run(async {
        let start = now();
        let alive = Alive::new();
        let other = async {
            let _alive = alive.clone();
            pending::<Result<(), &str>>().await
        };
        let error = try_join!(after(1, Ok::<_, &str>(1)), other, after(2, Err::<(), _>("second")));
        assert_eq!(error, Err("second"));
        assert_eq!((alive.others(), now() - start), (0, Duration::from_secs(2)));
        assert_eq!(try_join!(ready(Ok::<_, ()>(1)), after(1, Ok("x"))), Ok((1, "x")));
        let both = try_join!(ready(Err::<(), _>("left")), ready(Err::<(), _>("right")));
        assert_eq!(both, Err("left"));
    });
}

#[test]
fn a_scope_ends_after_its_children() {
    run(async {
        let trace = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| trace.borrow_mut().push(what);
        TaskGroup::scope(async |group: &TaskGroup<()>| {
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
fn the_first_failure_cancels_body_and_children_and_all_failures_are_kept() {
    run(async {
        let alive = Alive::new();
        let in_body = alive.clone();
        let error = TaskGroup::scope(async |group: &TaskGroup<&'static str>| {
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
        let error = TaskGroup::scope(async |group: &TaskGroup<&'static str>| {
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
        let scope = TaskGroup::scope(async |group: &TaskGroup<()>| {
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
        TaskGroup::scope(async |group: &TaskGroup<()>| {
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
fn combinators_store_a_future_once() {
    const BYTES: usize = 4_096;
    async fn big() {
        let bytes = [1_u8; BYTES];
        yield_now().await;
        assert!(bytes.iter().all(|byte| *byte == 1));
    }
    run(async {
        let token = CancellationToken::new();
        let second = Duration::from_secs(1);
        let sizes = [
            ("or", size_of_val(&or(big(), ready(())))),
            ("race", size_of_val(&race(ready(()), big()))),
            ("timeout", size_of_val(&timeout(second, big()))),
            ("shielded", size_of_val(&shielded(big()))),
            ("run_until_cancelled", size_of_val(&token.run_until_cancelled(big()))),
        ];
        for (name, size) in sizes {
            assert!(size < BYTES + 256, "{name} takes {size} bytes");
        }
    });
}

#[test]
fn or_prefers_the_left_future_and_race_neither() {
    use Either::{Left, Right};
    run(async {
        for _ in 0..3 {
            assert_eq!(or(ready('l'), ready('r')).await, Left('l'));
        }
        let mut n_left = 0;
        // The longest run of wins of one side.
        let (mut last, mut n_same, mut longest) = (None, 0, 0);
        for _ in 0..1_000 {
            let winner = race(ready('l'), ready('r')).await;
            assert!(matches!(winner, Left('l') | Right('r')));
            n_left += usize::from(winner == Left('l'));
            n_same = if last == Some(winner) { n_same + 1 } else { 1 };
            (last, longest) = (Some(winner), longest.max(n_same));
        }
        assert!((400..600).contains(&n_left), "the left future won {n_left} times of 1,000");
        assert!(longest < 30, "one future won {longest} times in a row");
        assert_eq!(race(pending::<()>(), after(1, 'r')).await, Right('r'));
        assert_eq!(race(after(1, 'l'), pending::<()>()).await, Left('l'));
    });
}

#[test]
fn nested_races_in_a_loop_prefer_no_future() {
    run(async {
        let mut wins = HashMap::new();
        for _ in 0..1_000 {
            let winner = race(race(ready(()), ready(())), race(ready(()), ready(()))).await;
            *wins.entry(winner).or_insert(0) += 1;
        }
        assert_eq!(wins.len(), 4);
        assert!(wins.values().all(|n_wins| (150..350).contains(n_wins)), "{wins:?}");
    });
}

#[test]
fn races_under_a_foreign_executor_prefer_no_future() {
    let n_left = (0..1_000).filter(|_| {
        let winner = block_on_elsewhere(race(ready(()), ready(())));
        winner == Either::Left(())
    });
    let n_left = n_left.count();
    assert!((400..600).contains(&n_left), "the left future won {n_left} times of 1,000");
}

#[test]
fn races_of_many_poll_in_written_order_from_any_position_on() {
    run(async {
        let trace = RefCell::new(String::new());
        let contender = |name: char, is_ready: bool| {
            let trace = &trace;
            poll_fn(move |_| {
                trace.borrow_mut().push(name);
                if is_ready { Poll::Ready(name) } else { Poll::Pending }
            })
        };
        let mut orders = HashSet::new();
        for _ in 0..100 {
            let mut futures = [false, false, false, true].into_iter().zip('a'..);
            let mut next = || futures.next().map(|(is_ready, name)| contender(name, is_ready));
            let (a, b, c, d) = (next().unwrap(), next().unwrap(), next().unwrap(), next().unwrap());
            let (mut a, mut b, mut c, mut d) = (pin!(a), pin!(b), pin!(c), pin!(d));
            let won = race_all(&mut [a.as_mut(), b.as_mut(), c.as_mut(), d.as_mut()]).await;
            assert_eq!(won, (3, 'd'));
            orders.insert(trace.take());
        }
        let expected = ["abcd", "bcd", "cd", "d"].map(String::from);
        assert_eq!(orders, HashSet::from(expected));
        // Futures that are always ready win equally often.
        let mut n_wins = [0; 3];
        for _ in 0..600 {
            let (position, name) =
                race_all(&mut [pin!(ready('a')), pin!(ready('b')), pin!(ready('c'))]).await;
            assert_eq!(('a'..).nth(position), Some(name));
            n_wins[position] += 1;
        }
        assert!(n_wins.iter().all(|n_wins| (120..280).contains(n_wins)), "{n_wins:?}");
    });
}

#[test]
fn a_future_that_lost_a_race_of_many_can_be_raced_again() {
    run(async {
        let mut slow = pin!(after(3, 's'));
        let start = now();
        let mut winners = Vec::new();
        for _ in 0..2 {
            winners.push(race_all(&mut [slow.as_mut(), pin!(after(2, 'f'))]).await);
        }
        assert_eq!(winners, [(1, 'f'), (0, 's')]);
        assert_eq!(now() - start, Duration::from_secs(3));
    });
}

#[test]
fn cancelling_a_token_reaches_its_children_and_not_its_parent() {
    run(async {
        let parent = CancellationToken::new();
        let (one, other) = (parent.child_token(), parent.child_token());
        let below = one.child_token();
        one.cancel();
        assert!(below.is_cancelled() && one.is_cancelled());
        assert!(!parent.is_cancelled() && !other.is_cancelled());
        let waiting = spawn(async move { other.cancelled().await });
        yield_now().await;
        parent.cancel();
        waiting.await.unwrap();
        assert!(parent.child_token().is_cancelled());
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
fn run_until_cancelled_returns_the_output_or_none() {
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
        let before = metrics().polls;
        token.cancel();
        yield_now().await;
        assert!(metrics().polls - before < 5);
    });
}
