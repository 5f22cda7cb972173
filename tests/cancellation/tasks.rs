//! Time, tasks and combinators.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_core::Stream;
use polyloop::blocking::BlockingPool;
use polyloop::channel::local;
use polyloop::future::{Either, Until, as_completed, or, race_all, try_gather, wait, wait_while};
use polyloop::scope::{CancelScope, shielded};
use polyloop::time::{interval_at, sleep_until, timeout_at};
use polyloop::{
    CancellationToken, Handle, JoinSet, TaskGroup, gather, race, sleep, spawn, spawn_blocking,
    timeout, yield_now,
};

use crate::dropper::{Dropper, cases};

cases! {
    a_dropped_sleep_leaves_no_timer_and_the_next_is_not_early: "sleep", "sleep_until", "Sleep",
        "yield_now", "YieldNow";
    a_dropped_wait_loses_no_tick: "Interval::tick", "Interval as Stream";
    a_dropped_join_loses_no_output: "JoinHandle", "JoinHandle::named", "spawn",
        "JoinHandle::abort_on_drop", "AbortOnDrop", "AbortOnDrop::into_handle";
    a_dropped_join_across_threads_loses_no_output: "Handle::spawn", "Runtime::spawn",
        "spawn_blocking", "BlockingPool::spawn", "BlockingPool::spawn_named",
        "BlockingPool::try_spawn";
    a_dropped_wait_for_a_result_of_a_pool_loses_none: "PoolMap::next", "PoolMap as Stream";
    a_dropped_wait_for_the_next_of_a_set_loses_no_output: "JoinSet::join_next",
        "JoinSet::join_next_with_number", "JoinSet as Stream";
    a_dropped_gather_drops_what_it_gathers: "gather", "try_gather";
    a_dropped_wait_detaches_its_tasks: "wait", "wait_while";
    a_dropped_scope_drops_its_children: "TaskGroup::scope";
    a_dropped_timeout_is_as_cancel_safe_as_its_future: "timeout", "timeout_at", "or", "race",
        "CancellationToken::run_until_cancelled", "CancelScope::run", "shielded";
    a_dropped_race_of_borrowed_futures_loses_no_output: "race_all";
    a_dropped_wait_for_a_token_loses_nothing: "CancellationToken::cancelled";
}

const SHORT: Duration = Duration::from_millis(2);

async fn a_dropped_sleep_leaves_no_timer_and_the_next_is_not_early(dropper: &Dropper) {
    let deadline = Instant::now() + SHORT;
    dropper.again(async || sleep_until(deadline).await, || {}).await;
    assert!(Instant::now() >= deadline);
    let started = Cell::new(Instant::now());
    let nap = async || {
        started.set(Instant::now());
        sleep(SHORT).await;
    };
    dropper.again(nap, || {}).await;
    assert!(started.get().elapsed() >= SHORT);
    // The sleep itself is kept; only the future that awaits it is dropped.
    let mut kept = sleep(SHORT);
    let deadline = kept.deadline().unwrap();
    dropper.again(async || Pin::new(&mut kept).await, || {}).await;
    assert!(Instant::now() >= deadline);
    dropper.again(async || yield_now().await, || {}).await;
}

async fn a_dropped_wait_loses_no_tick(dropper: &Dropper) {
    let start = Instant::now();
    let mut beat = interval_at(start, SHORT / 4);
    for i in 0..8 {
        let tick = async || match i % 2 {
            0 => beat.tick().await,
            _ => poll_fn(|cx| Pin::new(&mut beat).poll_next(cx)).await.unwrap(),
        };
        let due = dropper.again(tick, || {}).await;
        assert_eq!(due, start + SHORT / 4 * i);
        assert!(Instant::now() >= due);
    }
}

/// A task that ends with the sum of its messages once it has received enough.
fn adder() -> (impl FnMut(), impl Future<Output = u32> + 'static) {
    let (sender, mut receiver) = local::unbounded();
    let mut numbers = 1..=4;
    let peer_step = move || {
        // It has stopped receiving once it has them all.
        let _ = numbers.next().map(|number| sender.send(number));
    };
    let sum = async move {
        let mut sum = 0;
        for _ in 1..=4 {
            sum += receiver.recv().await.unwrap();
        }
        sum
    };
    (peer_step, sum)
}

async fn a_dropped_join_loses_no_output(dropper: &Dropper) {
    let (peer_step, sum) = adder();
    let mut task = spawn(sum).named("adder");
    assert_eq!(dropper.again(async || (&mut task).await, peer_step).await.unwrap(), 10);
    // The wait is dropped, not the owner whose drop would abort the task.
    let (peer_step, sum) = adder();
    let mut task = spawn(sum).abort_on_drop().into_handle().abort_on_drop();
    assert_eq!(dropper.again(async || (&mut task).await, peer_step).await.unwrap(), 10);
}

async fn a_dropped_join_across_threads_loses_no_output(dropper: &Dropper) {
    let (go, mut gone) = polyloop::channel::unbounded();
    let mut task = Handle::current().unwrap().spawn(async move { gone.recv().await.unwrap() });
    let peer_step = || _ = go.send(7);
    assert_eq!(dropper.again(async || (&mut task).await, peer_step).await.unwrap(), 7);

    let pool = BlockingPool::new(1);
    for i in 0..4 {
        let (go, gone) = mpsc::channel();
        let work = move || gone.recv().unwrap();
        let mut work = match i {
            0 => spawn_blocking(work),
            1 => pool.spawn(work),
            2 => pool.spawn_named("named", work),
            _ => pool.try_spawn(work).unwrap(),
        };
        let peer_step = || _ = go.send("done");
        assert_eq!(dropper.again(async || (&mut work).await, peer_step).await.unwrap(), "done");
    }

    let (peer_step, sum) = adder();
    let mut task = spawn(sum);
    assert_eq!(dropper.again(async || (&mut task).await, peer_step).await.unwrap(), 10);
}

async fn a_dropped_wait_for_a_result_of_a_pool_loses_none(dropper: &Dropper) {
    let (go, gone) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let pool = BlockingPool::new(1);
    let mut results = pool.map(0..6, move |i| {
        gone.lock().unwrap().recv().unwrap();
        i
    });
    let peer_step = || _ = go.send(());
    for i in 0..6 {
        let next = async || match i % 2 {
            0 => results.next().await,
            _ => poll_fn(|cx| Pin::new(&mut results).poll_next(cx)).await,
        };
        assert_eq!(dropper.again(next, peer_step).await.unwrap().unwrap(), i);
    }
    assert!(results.next().await.is_none());
}

/// Futures that complete one per step, the last first.
fn one_by_one() -> (impl FnMut(), Vec<impl Future<Output = usize> + 'static>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| local::unbounded()).unzip();
    let mut senders = senders.into_iter().enumerate();
    let peer_step = move || {
        // The receiver may have been dropped.
        let _ = senders.next_back().map(|(i, sender)| sender.send(i));
    };
    let wait = |mut receiver: local::Receiver<usize>| async move { receiver.recv().await.unwrap() };
    (peer_step, receivers.into_iter().map(wait).collect())
}

async fn a_dropped_wait_for_the_next_of_a_set_loses_no_output(dropper: &Dropper) {
    let (mut peer_step, futures) = one_by_one();
    let mut set = JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    let mut outputs = Vec::new();
    while let Some(output) = dropper.again(async || set.join_next().await, &mut peer_step).await {
        outputs.push(output.unwrap());
    }
    assert_eq!(outputs, [3, 2, 1, 0]);

    let (mut peer_step, futures) = one_by_one();
    let mut completed = as_completed(futures);
    let mut outputs = Vec::new();
    loop {
        // Without a number every second time.
        let next = async || match outputs.len() % 2 {
            0 => completed.join_next_with_number().await.map(|(i, output)| (Some(i), output)),
            _ => poll_fn(|cx| Pin::new(&mut completed).poll_next(cx))
                .await
                .map(|output| (None, output)),
        };
        let Some((number, output)) = dropper.again(next, &mut peer_step).await else { break };
        let output = output.unwrap();
        assert!(number.is_none_or(|number| number == output));
        outputs.push(output);
    }
    assert_eq!(outputs, [3, 2, 1, 0]);
}

/// Gives each future a reference count, which shows when all have been dropped.
fn watched<F: Future>(
    shared: &Rc<()>,
    futures: Vec<F>,
) -> Vec<impl Future<Output = F::Output> + use<F>> {
    let watch = |future| {
        let share = Rc::clone(shared);
        async move {
            let output = future.await;
            drop(share);
            output
        }
    };
    futures.into_iter().map(watch).collect()
}

async fn a_dropped_gather_drops_what_it_gathers(dropper: &Dropper) {
    let shared = Rc::new(());
    let (peer_step, futures) = one_by_one();
    if let Some(outputs) = dropper.once(gather(watched(&shared, futures)), peer_step).await {
        let outputs: Vec<_> = outputs.into_iter().map(Result::unwrap).collect();
        assert_eq!(outputs, [0, 1, 2, 3]);
    }
    assert_eq!(Rc::strong_count(&shared), 1);

    let (peer_step, futures) = one_by_one();
    let futures = watched(&shared, futures).into_iter();
    let futures = futures.map(|future| async { Ok::<_, ()>(future.await) });
    if let Some(outputs) = dropper.once(try_gather(futures), peer_step).await {
        assert_eq!(outputs.unwrap(), [0, 1, 2, 3]);
    }
    assert_eq!(Rc::strong_count(&shared), 1);
}

async fn a_dropped_wait_detaches_its_tasks(dropper: &Dropper) {
    for with_condition in [false, true] {
        let n_done = Rc::new(Cell::new(0));
        let (mut peer_step, futures) = one_by_one();
        let count = |future: Pin<Box<dyn Future<Output = usize>>>| {
            let n_done = Rc::clone(&n_done);
            spawn(async move {
                future.await;
                n_done.set(n_done.get() + 1);
            })
        };
        let tasks = futures.into_iter().map(|future| count(Box::pin(future)));
        let waited = match with_condition {
            false => dropper.once(wait(tasks, Until::All, None), &mut peer_step).await,
            true => dropper.once(wait_while(tasks, |_| true, None), &mut peer_step).await,
        };
        if let Some(waited) = waited {
            assert_eq!((waited.done.len(), waited.pending.len()), (4, 0));
        }
        // They continue although the wait was dropped.
        while n_done.get() < 4 {
            peer_step();
            yield_now().await;
        }
    }
}

async fn a_dropped_scope_drops_its_children(dropper: &Dropper) {
    let hour = Duration::from_secs(3_600);
    for with_deadline in [false, true] {
        let shared = Rc::new(());
        let (peer_step, futures) = one_by_one();
        let futures = RefCell::new(watched(&shared, futures));
        let body = async |group: &TaskGroup<()>| {
            if with_deadline {
                group.cancel_scope().set_timeout(hour);
            }
            for future in futures.take() {
                group.spawn(async {
                    future.await;
                    Ok(())
                });
            }
            yield_now().await;
            Ok(7)
        };
        let outcome = dropper.once(TaskGroup::scope(body), peer_step).await;
        if let Some(value) = outcome {
            assert_eq!(value.unwrap(), 7);
        }
        drop(futures);
        assert_eq!(Rc::strong_count(&shared), 1);
    }
}

async fn a_dropped_timeout_is_as_cancel_safe_as_its_future(dropper: &Dropper) {
    let (sender, mut receiver) = local::unbounded();
    let mut numbers = 0..;
    let mut peer_step = || sender.send(numbers.next().unwrap()).unwrap();
    let hour = Duration::from_secs(3_600);
    let token = CancellationToken::new();
    for number in 0..16 {
        let received = dropper.again(
            async || match number % 8 {
                0 => timeout(hour, receiver.recv()).await.unwrap(),
                1 => timeout_at(Instant::now() + hour, receiver.recv()).await.unwrap(),
                2 => match race(pending::<()>(), receiver.recv()).await {
                    Either::Left(()) => unreachable!("it never completes"),
                    Either::Right(received) => received,
                },
                3 => match or(receiver.recv(), pending::<()>()).await {
                    Either::Left(received) => received,
                    Either::Right(()) => unreachable!("it never completes"),
                },
                4 => token.run_until_cancelled(receiver.recv()).await.unwrap(),
                5 => CancelScope::new()
                    .timeout(hour)
                    .run(async |_| receiver.recv().await)
                    .await
                    .unwrap(),
                6 => CancelScope::new().run(async |_| receiver.recv().await).await.unwrap(),
                _ => shielded(receiver.recv()).await,
            },
            &mut peer_step,
        );
        assert_eq!(received.await, Some(number));
    }
}

async fn a_dropped_race_of_borrowed_futures_loses_no_output(dropper: &Dropper) {
    let (mut peer_step, futures) = one_by_one();
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut outputs = Vec::new();
    while !futures.is_empty() {
        let race = async || {
            let mut racers: Vec<Pin<&mut dyn Future<Output = usize>>> = Vec::new();
            for future in &mut futures {
                racers.push(future.as_mut());
            }
            race_all(&mut racers).await
        };
        let (position, output) = dropper.again(race, &mut peer_step).await;
        drop(futures.remove(position));
        outputs.push(output);
    }
    outputs.sort_unstable();
    assert_eq!(outputs, [0, 1, 2, 3]);
}

async fn a_dropped_wait_for_a_token_loses_nothing(dropper: &Dropper) {
    let parent = CancellationToken::new();
    let (token, sibling) = (parent.child_token(), parent.child_token());
    let mut n_steps = 0;
    let peer_step = || {
        n_steps += 1;
        if n_steps == 2 {
            parent.cancel();
        }
    };
    dropper.again(async || token.cancelled().await, peer_step).await;
    assert!(token.is_cancelled() && sibling.is_cancelled());
    sibling.cancelled().await;
}
