//! Aim: a branch that is always busy does not starve the other branches of its task, or other tasks.

mod util;

use std::cell::Cell;
use std::future::{Pending, pending, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use polyloop_executor::channel::local;
use polyloop_executor::{
    CancellationToken, Either, TaskGroup, Until, as_completed, gather, join, metrics, or,
    poll_proceed, race, race_all, run, sleep, spawn, timeout, try_gather, try_join, wait,
    yield_now,
};

/// Spends the budget indefinitely, as a reader of a flooding peer does.
async fn flood() {
    loop {
        poll_fn(poll_proceed).await;
    }
}

/// Is ready at its third poll within the budget, as a leaf future that was woken.
fn third() -> impl Future<Output = ()> {
    let mut n_polls = 0;
    poll_fn(move |cx| {
        if poll_proceed(cx).is_pending() {
            return Poll::Pending;
        }
        n_polls += 1;
        if n_polls == 3 { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Runs `future`, which must be ready after a bounded number of polls.
fn run_within(n_polls: u64, future: impl Future<Output = ()>) {
    run(async {
        let watchdog = spawn(async move {
            let before = metrics().polls;
            while metrics().polls - before < n_polls {
                yield_now().await;
            }
        });
        let before = metrics().polls;
        let mut future = pin!(future);
        poll_fn(|cx| {
            // Written by hand, because the test is about combinators.
            if watchdog.is_finished() {
                panic!("not ready after {} polls", metrics().polls - before);
            }
            cx.waker().wake_by_ref();
            future.as_mut().poll(cx)
        })
        .await;
        watchdog.abort();
    })
    .unwrap();
}

#[test]
fn a_busy_branch_of_a_race_lets_the_other_receive() {
    run_within(50, async { assert_eq!(or(flood(), third()).await, Either::Right(())) });
    run_within(50, async { assert_eq!(or(third(), flood()).await, Either::Left(())) });
    run_within(50, async {
        for _ in 0..4 {
            assert_eq!(race(flood(), third()).await, Either::Right(()));
        }
    });
    run_within(50, async {
        let branches = &mut [pin!(flood()) as _, pin!(flood()) as _, pin!(third()) as _];
        assert_eq!(race_all(branches).await.0, 2);
    });
}

#[test]
fn two_busy_branches_take_turns_with_the_third() {
    run_within(100, async {
        let inner = or(flood(), third());
        assert_eq!(or(flood(), inner).await, Either::Right(Either::Right(())));
    });
    run_within(100, async {
        let inner = or(third(), flood());
        assert_eq!(or(inner, flood()).await, Either::Left(Either::Left(())));
    });
}

#[test]
fn a_busy_branch_of_a_join_lets_the_others_finish() {
    run_within(50, async {
        let is_done = Cell::new(false);
        let busy = async {
            while !is_done.get() {
                poll_fn(poll_proceed).await;
            }
        };
        join!(busy, async {
            third().await;
            is_done.set(true);
        });
    });
    run_within(50, async {
        let busy = async {
            flood().await;
            Ok(())
        };
        let failing = async {
            third().await;
            Err::<(), _>("done")
        };
        assert_eq!(try_join!(busy, failing), Err("done"));
    });
}

#[test]
fn a_race_that_is_recreated_for_each_message_receives_the_stop_message() {
    run_within(2_000, async {
        let (sender, mut receiver) = local::unbounded();
        // As fast as it is received, indefinitely.
        let flooding = spawn(async move {
            loop {
                for i in 0..1_000 {
                    if sender.send(i).is_err() {
                        return;
                    }
                }
                yield_now().await;
            }
        });
        let (stop, mut is_stopped) = local::unbounded();
        let stopping = spawn(async move {
            for _ in 0..10 {
                yield_now().await;
            }
            stop.send(()).unwrap();
            pending::<()>().await;
        });
        yield_now().await;
        let mut n_messages = 0;
        while let Either::Left(_) = or(receiver.recv(), is_stopped.recv()).await {
            n_messages += 1;
        }
        assert!(n_messages > 0);
        stopping.abort();
        flooding.abort();
    });
}

#[test]
fn nested_races_that_are_recreated_poll_every_branch() {
    run_within(20_000, async {
        let (sender, mut receiver) = local::unbounded();
        let (other, mut second) = local::unbounded();
        for _ in 0..1_000_000 {
            sender.send(()).unwrap();
            other.send(()).unwrap();
        }
        let (stop, mut is_stopped) = local::unbounded();
        let (halt, mut is_halted) = local::unbounded();
        stop.send(()).unwrap();
        halt.send(()).unwrap();
        let (mut n_stops, mut n_halts) = (0, 0);
        while n_stops == 0 || n_halts == 0 {
            let inner = or(receiver.recv(), is_stopped.recv());
            let outer = or(second.recv(), is_halted.recv());
            match or(inner, outer).await {
                Either::Left(Either::Right(_)) => {
                    n_stops += 1;
                }
                Either::Right(Either::Right(_)) => {
                    n_halts += 1;
                }
                Either::Left(Either::Left(message)) | Either::Right(Either::Left(message)) => {
                    message.expect("a branch was starved until its rival had no more messages");
                }
            }
        }
    });
}

#[test]
fn a_scope_with_a_busy_body_observes_the_failure_of_a_child() {
    run_within(50, async {
        let outcome = TaskGroup::scope(async |group: &TaskGroup<&str>| {
            group.spawn(async {
                yield_now().await;
                Err("failed")
            });
            flood().await;
            Ok(())
        });
        assert_eq!(outcome.await.unwrap_err().to_string(), "failed");
    });
}

/// Asserts that a task that only repeats `step` lets a timer fire.
fn assert_yields(what: &str, step: impl AsyncFnMut() + 'static) {
    run(async {
        let is_over = Rc::new(Cell::new(false));
        let mut step = step;
        let busy = spawn({
            let is_over = is_over.clone();
            async move {
                let mut n_steps = 0;
                while !is_over.get() {
                    step().await;
                    n_steps += 1;
                    assert!(n_steps < 20_000_000, "it never yields");
                }
                n_steps
            }
        });
        sleep(Duration::from_millis(2)).await;
        is_over.set(true);
        let n_steps = busy.await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(n_steps > 0, "{what}");
    })
    .unwrap();
}

#[test]
fn a_task_that_awaits_only_ready_futures_yields() {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let token = cancelled.clone();
    assert_yields("a cancelled token", async move || token.cancelled().await);
    assert_yields("run_until_cancelled", async move || {
        assert_eq!(cancelled.run_until_cancelled(pending::<()>()).await, None);
    });
    assert_yields("a race that is won at once", async || {
        race(pending::<()>(), ready(())).await;
    });
    assert_yields("a race that is won at once by the first", async || {
        race(ready(()), pending::<()>()).await;
    });
    assert_yields("or", async || {
        or(pending::<()>(), ready(())).await;
    });
    assert_yields("or that is won at once by the first", async || {
        or(ready(()), pending::<()>()).await;
    });
    assert_yields("a race of many", async || {
        race_all(&mut [pin!(ready(()))]).await;
    });
    let (_sender, mut receiver) = local::unbounded::<()>();
    assert_yields("a race against a receiver", async move || {
        race(receiver.recv(), ready(())).await;
    });
    assert_yields("join!", async || {
        join!(ready(()), ready(()));
    });
    assert_yields("try_join!", async || {
        assert!(try_join!(ready(Ok::<(), ()>(())), ready(Ok(()))).is_ok());
        assert!(try_join!(ready(Err::<(), ()>(())), ready(Ok(()))).is_err());
    });
    assert_yields("wait for nothing", async || {
        let waited = wait::<()>([], Until::All, None).await;
        assert!(waited.done.is_empty());
    });
    assert_yields("gather nothing", async || {
        gather(None::<Pending<()>>).await;
    });
    assert_yields("try_gather nothing", async || {
        assert!(try_gather(None::<Pending<Result<(), ()>>>).await.is_ok());
    });
    assert_yields("as_completed at its end", async || {
        assert!(as_completed(None::<Pending<()>>).join_next().await.is_none());
    });
    assert_yields("an empty scope", async || {
        assert!(TaskGroup::scope(async |_: &TaskGroup<()>| Ok(())).await.is_ok());
    });
    let (sender, mut receiver) = local::bounded(1);
    assert_yields("a channel with capacity and a message", async move || {
        sender.send(()).await.unwrap();
        receiver.recv().await.unwrap();
    });
    let (sender, mut receiver) = polyloop_executor::channel::bounded(1);
    assert_yields("a channel between threads", async move || {
        drop(sender.reserve().await.unwrap());
        sender.send(()).await.unwrap();
        receiver.recv().await.unwrap();
    });
    let (sender, receiver) = local::bounded::<()>(1);
    drop(receiver);
    assert_yields("a closed channel", async move || {
        sender.send(()).await.unwrap_err();
    });
    let (_, mut receiver) = local::bounded::<()>(1);
    assert_yields("a channel without senders", async move || {
        assert!(receiver.recv().await.is_none());
    });
    assert_yields("aborted tasks", async || {
        let task = spawn(pending::<()>());
        task.abort();
        task.await.unwrap_err();
    });
    assert_yields("a timeout around a ready future", async || {
        timeout(Duration::from_secs(9), poll_fn(poll_proceed)).await.unwrap();
    });
}
