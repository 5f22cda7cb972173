//! Aim: a turn takes at most its budget and one poll more, and returns when the next one is due.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use polyloop_executor::{
    Builder, NextTurn, Runtime, call_soon, channel, hold_time, run, sleep, spawn, yield_now,
};
use polyloop_reactor::Backend;

const LOOK: Option<Duration> = Some(Duration::ZERO);

fn runtimes() -> impl Iterator<Item = Runtime> {
    Backend::available().iter().map(|backend| Builder::new().backend(*backend).build().unwrap())
}

#[test]
fn slow_tasks_do_not_hold_the_host_beyond_the_budget() {
    for runtime in runtimes() {
        let n_done = Rc::new(Cell::new(0));
        for _ in 0..128 {
            let n_done = n_done.clone();
            drop(runtime.spawn(async move {
                thread::sleep(Duration::from_millis(1));
                n_done.set(n_done.get() + 1);
            }));
        }
        let next = runtime.turn(LOOK, Duration::from_millis(5)).unwrap();
        // Each takes at least a millisecond, so five of them spend the budget.
        assert!((1..=5).contains(&n_done.get()), "{} in a turn", n_done.get());
        assert_eq!(next, NextTurn::Now);
        let mut n_turns = 1;
        while n_done.get() < 128 {
            runtime.turn(LOOK, Duration::from_millis(5)).unwrap();
            n_turns += 1;
        }
        assert!(n_turns >= 128 / 5);
    }
}

#[test]
fn a_turn_without_budget_polls_one_task() {
    let runtime = Runtime::new().unwrap();
    let n = Rc::new(Cell::new(0));
    for _ in 0..10 {
        let n = n.clone();
        drop(runtime.spawn(async move { n.set(n.get() + 1) }));
    }
    for expected in 1..=10 {
        let next = runtime.turn(LOOK, Duration::ZERO).unwrap();
        assert_eq!(n.get(), expected);
        assert_eq!(next, if expected < 10 { NextTurn::Now } else { NextTurn::OnEvent });
    }
}

#[test]
fn a_budget_is_used_while_tasks_are_ready_and_no_longer() {
    let runtime = Runtime::new().unwrap();
    // More polls in one turn than between two checks for events.
    let counted = Rc::new(Cell::new(0));
    let n = counted.clone();
    let task = runtime.spawn(async move {
        for i in 0..10_000 {
            n.set(i);
            yield_now().await;
        }
    });
    let start = Instant::now();
    let next = runtime.turn(LOOK, Duration::from_secs(60)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(60));
    assert!(task.is_finished(), "{} polls", counted.get());
    assert_eq!(next, NextTurn::OnEvent);
}

#[test]
fn timers_and_messages_are_handled_in_a_turn_with_many_tasks() {
    for runtime in runtimes() {
        let handle = runtime.handle();
        let (sender, mut receiver) = channel::unbounded();
        let timer = runtime.spawn(sleep(Duration::from_millis(1)));
        let message = runtime.spawn(async move { receiver.recv().await });
        drop(runtime.spawn(async {
            loop {
                yield_now().await;
            }
        }));
        runtime.turn(LOOK, Duration::ZERO).unwrap();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            handle.call_soon(move || sender.send(1).unwrap());
        });
        let start = Instant::now();
        let next = runtime.turn(LOOK, Duration::from_millis(500)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(500));
        assert_eq!(next, NextTurn::Now);
        assert!(timer.is_finished() && message.is_finished());
        thread.join().unwrap();
    }
}

#[test]
fn a_wait_is_not_part_of_the_budget() {
    for runtime in runtimes() {
        let n = Rc::new(Cell::new(0));
        let seen = n.clone();
        drop(runtime.spawn(async move {
            sleep(Duration::from_millis(20)).await;
            for _ in 0..3 {
                let seen = seen.clone();
                call_soon(move || seen.set(seen.get() + 1));
            }
        }));
        runtime.turn(LOOK, Duration::MAX).unwrap();
        while n.get() == 0 {
            runtime.turn(None, Duration::from_secs(60)).unwrap();
        }
        assert_eq!(n.get(), 3, "the budget was spent on the wait");
    }
}

#[test]
fn a_turn_returns_when_the_next_one_is_due() {
    for runtime in runtimes() {
        assert_eq!(runtime.turn(LOOK, Duration::MAX).unwrap(), NextTurn::OnEvent);
        let before = Instant::now();
        let task = runtime.spawn(sleep(Duration::from_millis(1_500)));
        let next = runtime.turn(LOOK, Duration::MAX).unwrap();
        let NextTurn::At(deadline) = next else { panic!("{next:?}") };
        assert!(deadline >= before + Duration::from_millis(1_500));
        // Rounded up: a host that waits that long finds the timer due.
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            Duration::from_millis(next.timeout_ms() as u64) + Duration::from_millis(500) >= left
        );
        task.abort();
        assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
        drop(runtime.spawn(sleep(Duration::from_millis(1))));
        runtime.turn(LOOK, Duration::MAX).unwrap();
        thread::sleep(Duration::from_millis(2));
        assert_eq!(runtime.next_turn(), NextTurn::Now, "the timer is due");
    }
}

#[test]
fn a_host_that_waits_for_the_rounded_time_takes_one_turn_for_each_timer() {
    for runtime in runtimes() {
        let task = runtime.spawn(async {
            for _ in 0..10 {
                sleep(Duration::from_micros(1_300)).await;
            }
        });
        let mut next = runtime.next_turn();
        let mut n_turns = 0;
        while !task.is_finished() {
            thread::sleep(Duration::from_millis(next.timeout_ms().try_into().unwrap_or(0)));
            next = runtime.turn(LOOK, Duration::MAX).unwrap();
            n_turns += 1;
        }
        assert_eq!(n_turns, 11, "one to start, and one per timer");
    }
}

#[test]
fn a_virtual_timer_is_due_at_once_unless_time_is_held() {
    let runtime = Builder::new().virtual_time(true).build().unwrap();
    let task = runtime.spawn(sleep(Duration::from_secs(3_600)));
    assert_eq!(runtime.turn(LOOK, Duration::MAX).unwrap(), NextTurn::Now);
    let hold = runtime.enter(hold_time);
    assert_eq!(runtime.next_turn(), NextTurn::OnEvent);
    drop(hold);
    while !task.is_finished() {
        assert!(runtime.next_turn().is_due());
        runtime.turn(LOOK, Duration::MAX).unwrap();
    }
}

#[test]
fn a_task_may_turn_another_loop() {
    for inner in runtimes() {
        let n = Rc::new(Cell::new(0));
        let counted = n.clone();
        let inner_task = inner.spawn(async move {
            for _ in 0..5 {
                sleep(Duration::from_millis(1)).await;
                spawn(yield_now()).await.unwrap();
                counted.set(counted.get() + 1);
            }
        });
        run(async move {
            let other = spawn(async {
                for _ in 0..3 {
                    sleep(Duration::from_millis(1)).await;
                }
            });
            while !inner_task.is_finished() {
                inner.turn(LOOK, Duration::MAX).unwrap();
                // `spawn` here spawns on this loop again.
                spawn(yield_now()).await.unwrap();
            }
            other.await.unwrap();
            // The output of a task of the inner loop, awaited on the outer one.
            let output = inner.spawn(async { 7 });
            inner.turn(LOOK, Duration::MAX).unwrap();
            let joined = spawn(output);
            while !joined.is_finished() {
                inner.turn(LOOK, Duration::MAX).unwrap();
                yield_now().await;
            }
            assert_eq!(joined.await.unwrap().unwrap(), 7);
        })
        .unwrap();
        assert_eq!(n.get(), 5);
    }
}

#[test]
fn a_turn_inside_a_task_of_the_same_loop_is_an_error() {
    let runtime = Rc::new(Runtime::new().unwrap());
    let inside = runtime.clone();
    let kind =
        runtime.block_on(async move { inside.turn(LOOK, Duration::MAX).unwrap_err().kind() });
    assert_eq!(kind.unwrap(), io::ErrorKind::ResourceBusy);
    // Also through a loop in between.
    let seen = Rc::new(Cell::new(None));
    let (inside, found) = (Rc::downgrade(&runtime), seen.clone());
    drop(runtime.spawn(async move {
        let between = Runtime::new().unwrap();
        let runtime = inside.upgrade().unwrap();
        drop(between.spawn(async move {
            found.set(Some(runtime.turn(LOOK, Duration::MAX).unwrap_err().kind()));
        }));
        between.turn(LOOK, Duration::MAX).unwrap();
    }));
    runtime.turn(LOOK, Duration::MAX).unwrap();
    assert_eq!(seen.get(), Some(io::ErrorKind::ResourceBusy));
}

#[test]
fn a_turn_between_others_of_the_same_loop_may_be_taken_inside_enter() {
    let runtime = Runtime::new().unwrap();
    let task = runtime.enter(|| {
        let task = spawn(async { 7 });
        runtime.turn(LOOK, Duration::MAX).unwrap();
        drop(spawn(pending::<()>()));
        task
    });
    assert!(task.is_finished());
}
