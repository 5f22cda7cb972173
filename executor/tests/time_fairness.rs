//! Aim: timers, however many, do not starve other tasks and I/O.

mod util;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use polyloop_executor::{
    MissedTickBehavior, interval, interval_at, now, run, sleep, sleep_until, spawn, timeout,
    yield_now,
};

use util::run_virtual;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Counts the polls of a task that is always ready, until it is aborted.
fn count_turns() -> (Rc<Cell<usize>>, polyloop_executor::AbortOnDrop<()>) {
    let n_turns = Rc::new(Cell::new(0));
    let theirs = Rc::clone(&n_turns);
    let task = spawn(async move {
        loop {
            theirs.set(theirs.get() + 1);
            yield_now().await;
        }
    });
    (n_turns, task.abort_on_drop())
}

#[test]
fn an_interval_whose_body_is_longer_than_its_period_lets_other_tasks_run() {
    for missed in [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
        run(async {
            let (n_turns, _task) = count_turns();
            let mut beat = interval(US);
            beat.set_missed_tick_behavior(missed);
            for _ in 0..50 {
                beat.tick().await;
                thread::sleep(MS);
            }
            let n_turns = n_turns.get();
            assert!(n_turns >= 40, "{missed:?}: {n_turns} turns in 50 bodies of 1 ms");
        })
        .unwrap();
    }
}

#[test]
fn a_million_ticks_after_a_stall_do_not_fire_in_one_poll() {
    run_virtual(async {
        let mut beat = interval_at(now() + US, US);
        sleep(Duration::from_secs(1)).await;
        let (n_turns, _task) = count_turns();
        for _ in 0..1_000_000 {
            beat.tick().await;
        }
        let n_turns = n_turns.get();
        assert!(n_turns >= 1_000_000 / 128, "{n_turns} turns");
    });
}

#[test]
fn a_tick_that_yielded_is_not_lost() {
    run_virtual(async {
        let start = now();
        let mut beat = interval(MS);
        beat.tick().await;
        sleep(100 * MS).await;
        // Repeatedly polled once and dropped: each eventually makes progress.
        let mut n_ticks = 0;
        while n_ticks < 100 {
            let mut tick = pin!(beat.tick());
            if let Poll::Ready(due) = poll_fn(|cx| Poll::Ready(tick.as_mut().poll(cx))).await {
                n_ticks += 1;
                assert_eq!(due - start, n_ticks * MS);
            }
            yield_now().await;
        }
    });
}

#[test]
fn awaiting_an_elapsed_sleep_repeatedly_lets_other_tasks_run() {
    run_virtual(async {
        let mut nap = sleep(MS);
        (&mut nap).await;
        let (n_turns, _task) = count_turns();
        for _ in 0..12_800 {
            (&mut nap).await;
        }
        assert!(n_turns.get() >= 95, "{} turns", n_turns.get());
    });
}

#[test]
fn a_timeout_elapses_although_its_future_has_spent_the_budget() {
    run_virtual(async {
        let mut over = sleep(MS);
        (&mut over).await;
        let endless = async {
            loop {
                (&mut over).await;
            }
        };
        // Virtual time passes only when nothing is ready, so the deadline has to be in the past.
        let mut limit = sleep_until(now());
        let mut endless = pin!(endless);
        let raced = poll_fn(|cx| match endless.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => Pin::new(&mut limit).poll(cx),
        });
        raced.await;
    });
}

#[test]
fn zero_sleeps_and_yields_let_other_tasks_run() {
    run(async {
        let (n_turns, _task) = count_turns();
        for i in 0..1_000 {
            if i % 2 == 0 { sleep(Duration::ZERO).await } else { yield_now().await }
        }
        assert!(n_turns.get() >= 900, "{} turns", n_turns.get());
    })
    .unwrap();
}

/// Counts timers that fire, without a task.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn many_due_timers_fire_in_order_in_bounded_batches() {
    run_virtual(async {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        // Armed first, so that the watcher runs when the first timer fires.
        let mut first = sleep(HOUR);
        poll_fn(|cx| Poll::Ready(Pin::new(&mut first).poll(cx).is_pending())).await;
        let mut naps: Vec<_> = (0..10_000).map(|_| sleep(HOUR)).collect();
        for nap in &mut naps {
            assert!(Pin::new(nap).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let watcher = async {
            let (mut before, mut most) = (0, 0);
            first.await;
            while before < 10_000 {
                let fired = count.0.load(Ordering::Relaxed);
                most = most.max(fired - before);
                before = fired;
                yield_now().await;
            }
            most
        };
        let most = timeout(2 * HOUR, watcher).await.expect("some timers do not fire");
        assert!(most <= 512, "{most} timers fired between two polls");
    });
}

#[test]
fn an_interval_whose_body_is_longer_than_its_period_lets_timers_fire() {
    run(async {
        let n_bodies = Rc::new(Cell::new(0));
        let theirs = Rc::clone(&n_bodies);
        let _slow = spawn(async move {
            let mut beat = interval(MS);
            loop {
                beat.tick().await;
                thread::sleep(2 * MS);
                theirs.set(theirs.get() + 1);
            }
        })
        .abort_on_drop();
        sleep(5 * MS).await;
        // Each takes at least two milliseconds, so the third one ends after the deadline.
        assert!(n_bodies.get() <= 5, "the timer waited for {} bodies", n_bodies.get());
    })
    .unwrap();
}
