//! Aim: a sleep that is reset wakes the task that awaits it, on whichever task or thread it is reset.

mod util;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    CancelScope, Runtime, Sleep, metrics, now, run, sleep, spawn, timeout, yield_now,
};

use util::run_virtual;

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

type Shared = Rc<RefCell<Sleep>>;

fn shared(duration: Duration) -> Shared {
    Rc::new(RefCell::new(sleep(duration)))
}

/// Awaits a sleep that other tasks may reset meanwhile.
async fn await_shared(nap: &Shared) {
    poll_fn(|cx| Pin::new(&mut *nap.borrow_mut()).poll(cx)).await;
}

async fn poll_once(nap: &Shared) -> Poll<()> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *nap.borrow_mut()).poll(cx))).await
}

#[test]
fn a_task_that_awaits_a_sleep_is_woken_at_the_deadline_that_another_task_sets() {
    // To an earlier time, to a later one, to now, and from never.
    for (first, second) in
        [(10 * HOUR, 2 * HOUR), (HOUR, 3 * HOUR), (HOUR, Duration::ZERO), (Duration::MAX, 2 * HOUR)]
    {
        run_virtual(async move {
            let start = now();
            let nap = shared(first);
            let theirs = Rc::clone(&nap);
            let waiter = spawn(async move {
                await_shared(&theirs).await;
                now()
            });
            yield_now().await;
            nap.borrow_mut().reset(start + second);
            let woken = timeout(20 * HOUR, waiter).await;
            assert_eq!(woken.expect("the waiter was lost").unwrap() - start, second);
            assert_eq!(metrics().timers, 0);
        });
    }
}

#[test]
fn a_sleep_that_is_reset_again_and_again_ends_at_the_last_deadline() {
    run_virtual(async {
        let start = now();
        let nap = shared(HOUR);
        let theirs = Rc::clone(&nap);
        let waiter = spawn(async move {
            await_shared(&theirs).await;
            now()
        });
        for hour in 1..50 {
            sleep(HOUR - MS).await;
            assert!(!waiter.is_finished());
            nap.borrow_mut().reset(now() + HOUR);
            assert_eq!(metrics().timers, 1, "hour {hour}");
        }
        let woken = timeout(20 * HOUR, waiter).await.expect("the waiter was lost").unwrap();
        assert_eq!(woken - start, 49 * (HOUR - MS) + HOUR);
    });
}

#[test]
fn a_sleep_reset_after_it_fired_and_before_its_task_ran_has_not_elapsed() {
    run_virtual(async {
        let start = now();
        let nap = shared(HOUR);
        let theirs = Rc::clone(&nap);
        // Armed first, so it runs first at the same deadline, and finds the other fired.
        let resetter = spawn(async move {
            sleep(HOUR).await;
            theirs.borrow_mut().reset(now() + HOUR);
        });
        let waiter = spawn(async move {
            await_shared(&nap).await;
            now()
        });
        resetter.await.unwrap();
        let woken = timeout(20 * HOUR, waiter).await.expect("the waiter was lost").unwrap();
        assert_eq!(woken - start, 2 * HOUR);
    });
}

#[test]
fn of_two_tasks_that_polled_a_sleep_the_last_is_woken_also_after_a_reset() {
    run_virtual(async {
        let start = now();
        let nap = shared(10 * HOUR);
        let theirs = Rc::clone(&nap);
        let first = spawn(async move {
            assert!(poll_once(&theirs).await.is_pending());
            pending::<()>().await;
        });
        yield_now().await;
        let theirs = Rc::clone(&nap);
        let second = spawn(async move {
            await_shared(&theirs).await;
            now()
        });
        yield_now().await;
        nap.borrow_mut().reset(start + HOUR);
        let woken = timeout(20 * HOUR, second).await.expect("the waiter was lost").unwrap();
        assert_eq!(woken - start, HOUR);
        first.abort();
    });
}

#[test]
fn a_scope_that_another_task_reschedules_ends_at_the_new_deadline() {
    run_virtual(async {
        let start = now();
        let outcome = CancelScope::new().run(async |scope| {
            scope.set_deadline(start + 10 * HOUR);
            let theirs = scope.clone();
            let _detached = spawn(async move {
                sleep(HOUR).await;
                theirs.set_timeout(HOUR);
            });
            pending::<()>().await;
        });
        assert!(timeout(20 * HOUR, outcome).await.unwrap().is_err());
        assert_eq!(now() - start, 2 * HOUR);
    });
}

/// Awaits a sleep on a loop on a new thread, and returns when it elapsed.
fn await_elsewhere(nap: &Arc<Mutex<Sleep>>) -> (thread::JoinHandle<Instant>, mpsc::Receiver<()>) {
    let (armed, is_armed) = mpsc::channel();
    let nap = Arc::clone(nap);
    let thread = thread::spawn(move || {
        run(async move {
            let wait = poll_fn(|cx| {
                let polled = Pin::new(&mut *nap.lock().unwrap()).poll(cx);
                let _ = armed.send(());
                polled
            });
            timeout(60 * 1_000 * MS, wait).await.expect("the waiter was lost");
            Instant::now()
        })
        .unwrap()
    });
    (thread, is_armed)
}

#[test]
fn a_sleep_that_a_plain_thread_resets_wakes_its_task_at_the_new_deadline() {
    let nap = Arc::new(Mutex::new(sleep(HOUR)));
    let (thread, is_armed) = await_elsewhere(&nap);
    is_armed.recv().unwrap();
    // Later and then earlier: the last message takes effect.
    nap.lock().unwrap().reset(Instant::now() + 2 * HOUR);
    let deadline = Instant::now() + 30 * MS;
    nap.lock().unwrap().reset(deadline);
    let woken = thread.join().unwrap();
    assert!(woken >= deadline);
    assert!(woken < deadline + 30 * 1_000 * MS);
}

#[test]
fn a_sleep_that_another_loop_resets_wakes_its_task_at_the_new_deadline() {
    let nap = Arc::new(Mutex::new(sleep(Duration::MAX)));
    let (thread, is_armed) = await_elsewhere(&nap);
    let deadline = run(async {
        is_armed.recv().unwrap();
        let deadline = Instant::now() + 30 * MS;
        nap.lock().unwrap().reset(deadline);
        deadline
    });
    assert!(thread.join().unwrap() >= deadline.unwrap());
}

#[test]
fn resets_from_another_thread_make_no_sleep_early_and_lose_none() {
    let nap = Arc::new(Mutex::new(sleep(MS)));
    let latest = Arc::new(Mutex::new(Instant::now()));
    let (theirs, their_latest) = (Arc::clone(&nap), Arc::clone(&latest));
    let resetter = thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let deadline = Instant::now() + Duration::from_micros(random.u64(..300));
            let mut nap = theirs.lock().unwrap();
            nap.reset(deadline);
            *their_latest.lock().unwrap() = deadline;
            drop(nap);
            thread::sleep(Duration::from_micros(random.u64(..100)));
        }
    });
    run(async {
        while !resetter.is_finished() {
            let wait = poll_fn(|cx| {
                let mut nap = nap.lock().unwrap();
                let polled = Pin::new(&mut *nap).poll(cx);
                if polled.is_ready() {
                    assert!(Instant::now() >= *latest.lock().unwrap(), "early");
                    // On the thread of the loop, between the resets by the other thread.
                    let deadline = Instant::now() + Duration::from_micros(200);
                    nap.reset(deadline);
                    *latest.lock().unwrap() = deadline;
                }
                polled
            });
            timeout(60 * 1_000 * MS, wait).await.expect("the waiter was lost");
        }
    })
    .unwrap();
    resetter.join().unwrap();
}

#[test]
fn a_reset_between_two_calls_of_block_on_takes_effect() {
    let runtime = Runtime::new().unwrap();
    let nap = shared(HOUR);
    let theirs = Rc::clone(&nap);
    let waiter = runtime.spawn(async move { await_shared(&theirs).await });
    runtime.block_on(yield_now()).unwrap();
    let deadline = Instant::now() + 5 * MS;
    nap.borrow_mut().reset(deadline);
    let woken = runtime.block_on(timeout(60 * 1_000 * MS, waiter)).unwrap();
    woken.expect("the waiter was lost").unwrap();
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_sleep_of_a_loop_that_has_ended_may_be_reset_and_polled_on_another() {
    let nap = shared(HOUR);
    run(async { assert!(poll_once(&nap).await.is_pending()) }).unwrap();
    // Before and while the next loop has the number of the last one.
    nap.borrow_mut().reset(Instant::now() + HOUR);
    run(async { assert!(poll_once(&nap).await.is_pending()) }).unwrap();
    run(async {
        let other = Rc::new(RefCell::new(sleep(HOUR)));
        assert!(poll_once(&other).await.is_pending());
        nap.borrow_mut().reset(Instant::now() + MS);
        assert_eq!(metrics().timers, 1);
        await_shared(&nap).await;
        assert_eq!(metrics().timers, 1);
    })
    .unwrap();
}
